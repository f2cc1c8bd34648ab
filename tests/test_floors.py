"""Who may import whom (README, Layout), read off the source; and what must not occur in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sopro_np"
FILES = sorted(p for p in PACKAGE.rglob("*.py"))

# From the ground up. A file imports lower floors, its own folder, and of its own floor what stands before it.
FLOORS = (
    ("errors", "version", "cores", "files", "precision"),
    ("ops", "kernels", "text", "pace", "guard", "joints"),
    ("state", "tensorfile", "weights", "config", "options", "sampler", "wav", "encode", "effects",
     "tokenizer_settings", "tokenizer", "locate", "containers", "mp4", "ffmpeg", "hearing", "audio"),
    ("layers", "convert"),
    ("model", "mimi"),
    ("voice", "voices", "modelfile", "session", "speech", "script", "job", "batch", "longform", "speechbatch"),
    ("engine", "requantise", "bench", "hub", "api"),
    ("evaluate", "bulk", "serve", "cli", "__main__"),
)  # fmt: skip
APART = {("mimi", "model"), ("convert", "layers"), ("hub", "engine"), ("hub", "bench"), ("api", "bench")}
# Inside the lowest floors, likewise from the ground up.
INSIDE = """
ops.abi ops.arrays ops.quant ops.blas ops.matmul ops.activations ops.reference ops.sampling
ops.native.cpu ops.native.packs kernels.build ops.native.jit ops.native.loader
ops.native.threads ops.native.desk ops.native.commands ops.native.arena ops.native.launcher ops.native.capture
ops.native.arguments ops.native.matmul ops.native.rows ops.native.sampling ops.native ops ops.runtime
kernels.simd.llvm kernels.simd.target kernels.simd.portable kernels.simd.avx2 kernels.simd.avxvnni
kernels.simd.avx512vnni kernels.simd.neon kernels.simd.neon_dot kernels.simd kernels.simd.vector kernels.simd.fields
kernels.simd.atomic kernels.simd.narrow kernels.simd.reduce kernels.simd.tile kernels.simd.columns kernels.functions
kernels.rows kernels.conv kernels.embed kernels.quantise kernels.pack kernels.attention kernels.sampling
kernels.column kernels.gemm kernels.run kernels kernels.compile
"""
ORDER = INSIDE.split()
PLACE = {name: (floor, i) for floor, names in enumerate(FLOORS) for i, name in enumerate(names)}
LAZY = {
    "torch": {"convert/source.py"},
    "huggingface_hub": {"hub/client.py"},
    "distributed": {"bulk/cluster.py"},
}
NEUTRAL = ("ops", "layers.py", "model", "mimi", "session.py")  # they know no generation


def unit(path: Path) -> str:
    """The name by which a file has its place: its folder below the package, or its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(full module name, stands inside a function) of every import; of `from a import b`: a.b and a."""
    tree = ast.parse(path.read_text("utf-8"))
    inner = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
    typing = {
        n for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test) for n in ast.walk(i)
    }
    for node in ast.walk(tree):
        lazy = node in inner or node in typing
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((f"{node.module}.{alias.name}", lazy) for alias in node.names)


def allowed(importer: str, imported: str) -> bool:
    if importer == imported or importer == "__init__":
        return True
    if (importer, imported) in APART:
        return False
    return PLACE[imported] < PLACE[importer]


def test_every_file_has_a_floor() -> None:
    assert FILES
    assert {unit(p) for p in FILES} - {"__init__"} <= set(PLACE), "give the new file a floor here and in README"


MODULES = {
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): p
    for p in FILES
    if p != PACKAGE / "__init__.py"
}


def imported_modules(path: Path) -> Iterator[str]:
    """Modules of this package that a file names, inside functions too."""
    for name, _ in imports(path):
        rest = name.removeprefix("sopro_np.")
        if rest == name:
            continue
        found = next((m for m in (rest, rest.rpartition(".")[0]) if m in MODULES), None)
        if found:
            yield found


def test_nothing_imports_in_circles() -> None:
    """Whatever is imported, also on demand: there is an order in which everything comes after what it needs."""
    needs = {module: set(imported_modules(path)) - {module} for module, path in MODULES.items()}
    while ready := [module for module, others in needs.items() if not others]:
        for module in ready:
            del needs[module]
        for others in needs.values():
            others.difference_update(ready)
    assert not needs, {module: sorted(others) for module, others in needs.items()}


def test_the_lowest_floors_have_an_order() -> None:
    inside = [m for m in MODULES if m.split(".")[0] in ("ops", "kernels")]
    assert sorted(ORDER) == sorted(inside), "give the new file its place here"
    for place, module in enumerate(ORDER):
        later = set(imported_modules(MODULES[module])) & set(ORDER[place + 1 :])
        assert not later, f"{module} imports {sorted(later)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = unit(path)
    for name, lazy in imports(path):
        top, _, rest = name.partition(".")
        assert top not in ("tools", "tests", "conftest"), f"imports {name}"
        if top != "sopro_np":
            assert top not in LAZY or (lazy and str(path.relative_to(PACKAGE)) in LAZY[top]), f"imports {name}"
            continue
        target = rest.split(".")[0]
        if target in PLACE:
            jit = (here, target, lazy) == ("ops", "kernels", True)
            assert jit or allowed(here, target), f"{here} imports {target}"
        if here == "ops":
            assert target in ("ops", "errors", "cores", "files", "precision", "kernels"), f"ops imports {target}"
        if target == "kernels" and here != "kernels":
            assert here == "ops" and lazy, "kernels are imported by their builder and the JIT, on demand"


def test_the_check_finds_something(tmp_path: Path) -> None:
    assert not allowed("layers", "engine")
    assert not allowed("mimi", "model") and not allowed("model", "mimi")
    assert allowed("session", "voice") and not allowed("voice", "session")
    file = tmp_path / "x.py"
    file.write_text("import torch\ndef f():\n    from sopro_np.model import ar\n")
    assert list(imports(file)) == [("torch", False), ("sopro_np.model.ar", True)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 320


def test_generations_have_no_name_below_the_converter() -> None:
    for part in NEUTRAL:
        files = [PACKAGE / part] if part.endswith(".py") else (PACKAGE / part).rglob("*.py")
        for path in files:
            strings = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
            assert not [s for s in strings if isinstance(s, str) and "1.5" in s], path
            assert not [s for s in strings if s in ("v1", "1", "v15")], path


FORBIDDEN = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_can_run_code_from_a_file(path: Path) -> None:
    """No pickle in any guise; torch.load in one place, with weights_only."""
    where = str(path.relative_to(PACKAGE))
    for name, _ in imports(path):
        assert name.split(".")[0] not in (
            "pickle",
            "cPickle",
            "dill",
            "cloudpickle",
            "joblib",
            "marshal",
            "shelve",
        ), name
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        called = ast.unparse(node.func)
        assert called not in FORBIDDEN, f"{called} in line {node.lineno}"
        assert keywords.get("allow_pickle", "False") == "False", f"line {node.lineno}"
        assert keywords.get("shell", "False") == "False", f"line {node.lineno}"
        if called == "torch.load":
            assert where == "convert/source.py"
            assert keywords["weights_only"] == "True"
        if called in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False"
