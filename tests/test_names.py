"""Names that this project has left behind stay behind: the field's word goes first (docs/READING.md has a glossary)."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve()
SOURCES = sorted(p for part in ("sopro_np", "tools", "tests") for p in (ROOT / part).rglob("*.py") if p != HERE)
PAGES = [ROOT / "README.md", ROOT / "hatch_build.py", *sorted((ROOT / "docs").glob("*.md")), ROOT / ".ci" / "run"]
# docs/KERNELS.md told people to import `on_threads` from here.
KEPT = {ROOT / "sopro_np/ops/native/desk.py": ["on_threads"]}

GONE_FILES = """
sopro_np/speak.py sopro_np/models.py sopro_np/sampling.py sopro_np/bench.py sopro_np/roofline.py
sopro_np/ops/context.py sopro_np/ops/threads.py sopro_np/ops/products.py sopro_np/ops/choice.py
sopro_np/ops/native/door.py sopro_np/ops/native/desk.py sopro_np/ops/native/team.py sopro_np/ops/native/products.py
sopro_np/ops/native/choice.py sopro_np/kernels/choice.py sopro_np/kernels/frames.py sopro_np/kernels/simd/parts.py
tools/study tools/sensitivity.py tests/torch_oracle
"""
GONE = GONE_FILES.split()
# Identifiers of functions, classes, attributes and variables, wherever they stand.
WORDS = {
    "DESK", "Desk", "desk", "door", "DOORS", "wanted_door", "Team", "team", "Recording", "Recorded", "advance_together",
    "next_row", "memories", "Memory", "vector_bytes", "_LISTENING", "torch_oracle", "chain_wav", "chain_mcd",
}  # fmt: skip
# pattern -> the folder in which it must not occur: words that are fine elsewhere.
LOCAL = {
    r"def (match|join|collect|remember|nearest|draw|capture|release)\b": "sopro_np/ops",
    r"\bops\.(match|join|collect|remember|nearest|draw|capture|release|choice|products|context|threads)\b": "",
    r"(?<!\w)fresh\(": "sopro_np",
    r"\bdef (take|allow|after|fresh|memory|memories)\(": "sopro_np",
    r"\b(chunk|chunks)\b": "sopro_np/kernels",
    r"\bvectors?_b(lock|ytes)\b": "sopro_np",
    r"\bclass (Script|Answers|SpeakerEncoder)\b": "sopro_np/evaluate",
    r"\b(play|write)\(tts": "sopro_np/evaluate",
    r"\bReference = ": "sopro_np/engine.py",
    r"\bSource = ": "sopro_np/audio.py",
    r"\bengine\.load\b": "",
    r"load_i64\(args \+": "sopro_np/kernels",
}


def modules() -> Iterator[str]:
    for path in GONE:
        yield path.removesuffix(".py").replace("/", ".")


def test_old_files_are_gone() -> None:
    left = [path for path in GONE if (ROOT / path).exists() and ROOT / path not in KEPT]
    assert not left
    for path, names in KEPT.items():
        tree = ast.parse(path.read_text())
        code = [node for node in tree.body if not isinstance(node, ast.Expr)]
        assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in code)
        assert [a.name for node in code if isinstance(node, ast.ImportFrom) and node.module != "__future__"
                for a in node.names] == names  # fmt: skip


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_old_names_are_gone(path: Path) -> None:
    text, where = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
    for module in modules():
        if module != "sopro_np.bench":  # a package now
            assert not re.search(rf"\b{re.escape(module)}\b(?!\.py)", text), module
        assert not re.search(rf"(?<![\w/]){re.escape(module.replace('.', '/'))}\.py", text), module
    for pattern, folder in LOCAL.items():
        if where.startswith(folder):
            assert not re.search(pattern, text), pattern
    if path.suffix == ".py":
        found = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
        found |= {n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)}
        found |= {n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        found |= {a.arg for a in ast.walk(ast.parse(text)) if isinstance(a, ast.arg)}
        assert not found & WORDS


def test_the_check_finds_something(tmp_path: Path) -> None:
    assert re.search(next(p for p in LOCAL if "fresh" in p), "state = layer.fresh()")
    assert "sopro_np.ops.native.door" in list(modules())


def test_what_the_pages_told_to_import_still_works() -> None:
    code = (
        "import sopro_np; from sopro_np.wav import write_wav; from sopro_np import ops;"
        "from sopro_np.ops.native.desk import on_threads; from sopro_np.ops.quant import quantize;"
        "sopro_np.load, sopro_np.synthesize, sopro_np.Sopro, sopro_np.Voice, sopro_np.SoproError;"
        "ops.linear, ops.pack, ops.using, ops.current"
    )
    subprocess.run([__import__("sys").executable, "-c", code], check=True, cwd=ROOT)
