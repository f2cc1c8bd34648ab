"""Kernel packs: wrong files, other CPUs, missing tools, stale sources; and how they get into the wheel."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny
from conftest import python

from sopro_np.cli.main import main
from sopro_np.errors import OpsError
from sopro_np.kernels import build
from sopro_np.ops.native import cpu, jit, loader
from sopro_np.ops.native import packs as packfile

ARCH = "v1.5"
if not cpu.supported():
    pytest.skip("this system has no native kernels", allow_module_level=True)
BEST = packfile.pack_name(cpu.machine(), cpu.fitting()[0])
OTHER = {"x86_64": 183, "aarch64": 62}  # ELF's number of the other machine
ELF = b"\x7fELF\2\1\1".ljust(16, b"\0") + bytes([3, 0, OTHER.get(cpu.machine(), 62), 0, 1, 0, 0, 0]) + bytes(4096)
WHERE = (
    "from sopro_np.ops import native; import sys, json; k = native.kernels(); "
    "print(json.dumps([k.source, k.target, str(k.path), sys.modules.get('numba') is not None]))"
)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOPRO_NP_TARGET", "SOPRO_NP_KERNELS", "SOPRO_NP_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of packs, and no numba."""
    monkeypatch.setattr(packfile, "PACKS", tmp_path / "packs")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "packs").mkdir()
    return tmp_path / "packs"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package without packs, into which numba cannot be imported unless a test says so."""
    shutil.copytree(
        packfile.PACKAGE, tmp_path / "tree" / "sopro_np", ignore=shutil.ignore_patterns("packs", "__pycache__")
    )
    (tmp_path / "tree" / "sopro_np" / "packs").mkdir()
    (tmp_path / "tree" / "sitecustomize.py").write_text("import sys; sys.modules['numba'] = None\n")
    return tmp_path / "tree"


def start(tree: Path, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Python with that package, in another folder."""
    search = os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH")]))
    more = {"PYTHONPATH": search, "SOPRO_NP_MODEL": str(tiny.model_file(ARCH)), **settings}
    return python(*arguments, cwd=tree, **more)


def load() -> packfile.Kernels:
    return loader.kernels.__wrapped__()


OLD = "avx2 fma f16c bmi1 bmi2 movbe abm"
WIDE = "avx512f avx512bw avx512vl avx512dq"
PROCESSORS = {  # flags, what is chosen
    "Sandy Bridge": ("x86_64", "avx", ["portable"]),
    "Haswell, Zen 3": ("x86_64", OLD, ["avx2", "portable"]),
    "Skylake-X": ("x86_64", f"{OLD} {WIDE}", ["avx2", "portable"]),
    "Ice Lake, Zen 4": ("x86_64", f"{OLD} {WIDE} avx512_vnni", ["avx512vnni", "avx2", "portable"]),
    "Alder Lake, N100": ("x86_64", f"{OLD} avx_vnni", ["avxvnni", "avx2", "portable"]),
    "Sapphire Rapids": ("x86_64", f"{OLD} {WIDE} avx512_vnni avx_vnni", ["avx512vnni", "avxvnni", "avx2", "portable"]),
    "VNNI without AVX2": ("x86_64", "avx_vnni avx512_vnni", ["portable"]),
    "Cortex-A53": ("aarch64", "asimd", ["neon", "portable"]),
    "Cortex-A76": ("aarch64", "asimd asimddp", ["neon_dot", "neon", "portable"]),
    "a MIPS": ("mips64", "", []),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_best_target_that_a_processor_can_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, flags, expected = PROCESSORS[name]
    monkeypatch.setattr(cpu, "machine", lambda: machine)
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset(flags.split()))
    assert cpu.fitting() == cpu.wanted() == expected
    lacking = cpu.lacking()
    assert set(lacking) == set(cpu.NEEDS.get(machine, ())) - set(expected) and all(lacking.values())
    for target in cpu.NEEDS.get(machine, ()):
        monkeypatch.setenv("SOPRO_NP_TARGET", target)
        if target in expected:
            assert cpu.wanted() == [target]
        else:
            with pytest.raises(OpsError, match=f"lacks {', '.join(lacking[target])}; it can run {expected[0]}"):
                cpu.wanted()


SEALED, MAPPED = "cut short, damaged, renamed", "not a kernel pack for this machine"
BAD_PACKS: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {  # what becomes of a good one, and who objects
    "empty": (lambda whole: b"", "it is empty"),
    "text": (lambda whole: b"#!/bin/sh\necho hello\n", SEALED),
    "garbage": (lambda whole: bytes(range(256)) * 400, SEALED),
    "cut at a page": (lambda whole: whole[: 1 << 13], SEALED),
    "cut by a byte": (lambda whole: whole[:-1], SEALED),
    "longer by a byte": (lambda whole: whole + b"x", SEALED),
    "one bit": (lambda whole: whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], SEALED),
    "no seal": (lambda whole: whole[: -packfile.SEAL], SEALED),
    "renamed": (lambda whole: packfile.sealed("x86_64-other-000000000000", whole[: -packfile.SEAL]), SEALED),
    "too long": (lambda whole: packfile.sealed(Path(BEST).stem, whole + bytes(packfile.MOST)), SEALED),
    "foreign machine": (lambda whole: packfile.sealed(Path(BEST).stem, ELF), MAPPED),
    "no library": (lambda whole: packfile.sealed(Path(BEST).stem, b"text"), MAPPED),
    "folder": (lambda whole: None, "Is a directory"),
}


@pytest.mark.parametrize("kind", BAD_PACKS)
def test_a_bad_pack_is_named(kind: str, packs: Path, own_packs: list[Path]) -> None:
    made, complaint = BAD_PACKS[kind]
    content = made(own_packs[0].read_bytes())
    (packs / BEST).mkdir() if content is None else (packs / BEST).write_bytes(content)
    with pytest.raises(OpsError, match=complaint) as raised:
        load()
    assert str(packs / BEST) in str(raised.value)
    assert "tools/build_kernels.py --in-place" in str(raised.value)
    assert len(str(raised.value)) < 600


def test_with_a_bad_pack_the_program_speaks_with_numpy(tree: Path) -> None:
    pack = tree / "sopro_np" / "packs" / BEST
    pack.write_bytes(packfile.sealed(pack.stem, ELF)[:-1])
    tiny.voice(ARCH).save(tree / "me.voice.safetensors")
    words = ["-m", "sopro_np", "say", "Hello.", "--voice", "me.voice.safetensors", "--max-frames", "2", "-o", "x.wav"]
    done = start(tree, *words)
    assert done.returncode == 0, done.stderr
    assert "computing with NumPy" in done.stderr and str(pack) in done.stderr
    assert "Traceback" not in done.stderr
    assert (tree / "x.wav").stat().st_size > 1000
    for more, settings in (
        (["--ops", "native"], {}),
        ([], {"SOPRO_NP_KERNELS": "pack"}),
        ([], {"SOPRO_NP_TARGET": cpu.fitting()[0]}),
    ):
        done = start(tree, *words, *more, **settings)
        assert done.returncode == 1
        assert str(pack) in done.stderr and "Traceback" not in done.stderr


def test_no_pack(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (packs / "x86_64-avx2-000000000000.so").write_bytes(b"")
    with pytest.raises(OpsError, match=r"no kernel pack .* holds x86_64-avx2-000000000000.so: of other sources"):
        load()
    loaded = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "numba")
    monkeypatch.setattr(jit, "load", lambda target: loaded.append(target))
    load()  # where numba is, it compiles
    monkeypatch.setenv("SOPRO_NP_KERNELS", "pack")
    with pytest.raises(OpsError, match="no kernel pack"):
        load()
    assert loaded == cpu.fitting()[:1]


def test_a_pack_of_other_sources_is_not_loaded(tree: Path, own_packs: list[Path]) -> None:
    for pack in own_packs:
        shutil.copy(pack, tree / "sopro_np" / "packs")
    done = start(tree, "-c", WHERE)
    assert json.loads(done.stdout) == ["pack", cpu.fitting()[0], str(tree / "sopro_np/packs" / BEST), False]
    source = tree / "sopro_np" / "kernels" / "rows.py"
    source.write_text(source.read_text() + "# changed\n")
    done = start(tree, "-c", WHERE)
    assert f"holds {', '.join(sorted(p.name for p in own_packs))}: of other sources" in done.stderr


def test_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SOPRO_NP_KERNELS", "packs")
    with pytest.raises(OpsError, match="SOPRO_NP_KERNELS=packs: kernels come from pack or jit"):
        load()
    monkeypatch.delenv("SOPRO_NP_KERNELS")
    monkeypatch.setenv("SOPRO_NP_TARGET", "sse9")
    with pytest.raises(OpsError, match=r"SOPRO_NP_TARGET=sse9: there are .*portable"):
        load()
    monkeypatch.setitem(cpu.NEEDS[cpu.machine()], "future", frozenset({"time_travel"}))
    monkeypatch.setenv("SOPRO_NP_TARGET", "future")
    with pytest.raises(OpsError, match=r"this CPU lacks time_travel; it can run .*portable"):
        load()
    monkeypatch.delenv("SOPRO_NP_TARGET")
    assert "future" not in cpu.fitting()
    monkeypatch.setattr(cpu, "machine", lambda: "riscv64")
    with pytest.raises(OpsError, match=r"64-bit Linux on x86_64 or aarch64, this is .* on riscv64"):
        load()


def test_doctor_tells(packs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (packs / "x86_64-avx2-000000000000.so").write_bytes(packfile.sealed("x86_64-avx2-000000000000", ELF))
    (packs / BEST).write_bytes(b"")
    (packs / "notes.txt").write_bytes(b"")
    monkeypatch.setenv("SOPRO_NP_TARGET", "sse9")
    monkeypatch.setattr("sopro_np.ops._default", None)
    loader.kernels.cache_clear()
    assert main(["doctor", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["ops"] == "none" and "sse9" in facts["kernels"]["none"] and "sse9" in facts["problems"][0]
    assert facts["settings"]["SOPRO_NP_TARGET"] == "sse9"
    assert facts["targets"] == cpu.fitting()
    kinds = {name: text.split()[0] for name, text in facts["packs"].items()}
    assert kinds == {"notes.txt": "not", BEST: "it", "x86_64-avx2-000000000000.so": "of"}
    assert main(["doctor"]) == 1


# --- building -----------------------------------------------------------------------------------------------


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = build.targets_of(cpu.machine())
    monkeypatch.setattr(build, "_check_numba", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.ToolMissing, match="install binutils"):
        list(build.build(targets, tmp_path, 1))
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(build.ToolMissing, match="numba is not installed: pip install numba"):
        list(build.build(targets, tmp_path, 1))
    with pytest.raises(build.BuildError, match="no kernels for riscv64"):
        build.targets_of("riscv64")


def test_sources_that_change_while_they_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = iter(["old", "new", "new"])

    def source_hash() -> str:
        return "old"

    source_hash.__wrapped__ = lambda: next(hashes)  # type: ignore[attr-defined]
    monkeypatch.setattr(build, "source_hash", source_hash)
    runs: list[str] = []
    monkeypatch.setattr(build, "_run", lambda command, *rest: runs.append(command[2]))
    for _ in range(2):  # noticed after compiling; then before
        with pytest.raises(build.BuildError, match="have changed since the start"):
            build.compiled("x/y", tmp_path)
    assert runs == [build.COMPILE]


def test_build_makes_what_is_absent_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And removes its own packs of older sources, nothing else."""
    made = []

    def fake(target: str, linker: str, path: Path) -> None:
        made.append(target)
        path.write_bytes(packfile.sealed(path.stem, b"code"))

    monkeypatch.setattr(build, "_build", fake)
    monkeypatch.setattr(build, "_check_numba", lambda: None)
    monkeypatch.setattr(build, "linker", lambda where: "ld")
    for name in ("libc.so", f"{cpu.machine()}-portable-000000000000.so"):
        (tmp_path / name).write_bytes(b"")
    targets = build.targets_of(cpu.machine())
    paths = list(build.build(targets, tmp_path, 2))
    assert sorted(made) == sorted(targets)
    paths[0].write_bytes(b"")
    assert list(build.build(targets, tmp_path, 2)) == paths
    assert len(made) == len(targets) + 1
    assert set(tmp_path.iterdir()) == {*paths, tmp_path / "libc.so"}


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[dict[str, Any], list[str]]]:
    """version -> what the build hook adds to a wheel, and its warnings."""
    interface = ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", tiny.ROOT / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(version: str) -> tuple[dict[str, Any], list[str]]:
        warnings: list[str] = []
        plugin = module.KernelPacks()
        plugin.root, plugin.app = str(tiny.ROOT), SimpleNamespace(display_warning=warnings.append)
        data: dict[str, Any] = {"force_include": {}, "pure_python": True}
        plugin.initialize(version, data)
        return data, warnings

    return call


def test_the_wheel_holds_the_packs(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build", lambda targets, folder, jobs: [folder / BEST])
    data, warnings = hook("standard")
    assert data == {
        "force_include": {str(packfile.PACKS / BEST): f"sopro_np/packs/{BEST}"},
        "pure_python": False,
        "tag": f"py3-none-linux_{cpu.machine()}",
    }
    assert not warnings
    assert hook("editable") == ({"force_include": {}, "pure_python": True}, [])


def test_without_tools_the_wheel_is_pure_and_says_so(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any) -> None:
        raise build.ToolMissing("no linker: install binutils")

    monkeypatch.setattr(build, "build", missing)
    data, warnings = hook("standard")
    assert data == {"force_include": {}, "pure_python": True}
    assert "WITHOUT native kernels: no linker: install binutils" in warnings[0]

    def broken(*arguments: Any) -> None:
        raise build.BuildError("a kernel does not compile")

    monkeypatch.setattr(build, "build", broken)
    with pytest.raises(build.BuildError):
        hook("standard")
    monkeypatch.setattr(cpu, "supported", lambda: False)
    assert "64-bit Linux" in hook("standard")[1][0]


def test_the_compiler_finds_the_standard_library_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a wheel the package's folder is site-packages, where packages of old have a typing.py."""
    (tmp_path / "typing.py").write_text("raise SystemExit('obsolete')\n")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(build, "ROOT", tmp_path)
    head = build.COMPILE.partition("import runpy")[0]
    monkeypatch.setattr(build, "COMPILE", head + "import typing\nopen(sys.argv[1], 'w').write(typing.__file__)\n")
    found = Path(build.compiled("x86_64/portable", tmp_path / "scratch").decode())
    assert found.name == "typing.py" and found.parent != tmp_path
