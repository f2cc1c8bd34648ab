"""The JIT: what it compiles, what it keeps and where, and from whom it takes no code."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT, python

from sopro_np.errors import OpsError
from sopro_np.kernels import build
from sopro_np.ops.abi import WIDE
from sopro_np.ops.native import cpu, jit
from sopro_np.ops.native import packs as packs

needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="no numba: pip install '.[test]'")
CODE = b"machine code"


def told(warned: pytest.WarningsRecorder) -> str:
    """What was said to people."""
    return "\n".join(str(w.message) for w in warned.list)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> Path:
    """The folder of the cache, not made yet. Compilers are replaced: `made` lists what was compiled."""
    monkeypatch.delenv("SOPRO_NP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(jit.metadata, "version", lambda name: "1.2.3")
    return tmp_path / "cache" / "sopro_np" / "kernels"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Targets that were compiled, by a compiler that takes a moment."""
    targets: list[str] = []

    def compiled(target: str, scratch: Path) -> bytes:
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
        targets.append(target)
        time.sleep(0.2)
        return CODE

    monkeypatch.setattr(build, "compiled", compiled)
    return targets


def test_compiled_once_and_kept(cache: Path, made: list[str], recwarn: pytest.WarningsRecorder) -> None:
    code, path = jit.stored("portable")
    assert (code, path) == (CODE, cache / f"{jit.object_name('portable')}.o")
    assert "compiling the kernels" in told(recwarn) and str(cache) in told(recwarn)
    recwarn.clear()
    assert jit.stored("portable") == (code, path)
    assert made == [f"{cpu.machine()}/portable"] and not told(recwarn)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in cache.iterdir())
    for word in (cpu.machine(), "portable", packs.source_hash(), "numba1.2.3", "llvmlite1.2.3"):
        assert word in path.name


@pytest.mark.parametrize("content", [b"", b"garbage", "cut", "renamed", "writable", "link", "folder"])
def test_a_bad_file_is_compiled_anew(content: object, cache: Path, made: list[str], recwarn, tmp_path: Path) -> None:
    """Not taken: what is damaged, and what others can write. A folder in its place cannot be replaced."""
    code, path = jit.stored("portable")
    whole = path.read_bytes()
    path.unlink()
    if content == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere")
    elif content == "folder":
        path.mkdir()
    else:
        changed = {"cut": whole[:-1], "renamed": packs.sealed("other", CODE), "writable": whole}
        path.write_bytes(content if isinstance(content, bytes) else changed[str(content)])
        path.chmod(0o666 if content == "writable" else 0o600)
    recwarn.clear()
    assert jit.stored("portable") == (code, path if content != "folder" else None)
    assert len(made) == 2
    assert f"{path.name} in the cache is not used" in told(recwarn)
    if content != "folder":
        assert path.read_bytes() == whole and not path.is_symlink()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_is_not_used(mode: int, cache: Path, made: list[str], recwarn) -> None:
    cache.mkdir(parents=True)
    planted = cache / f"{jit.object_name('portable')}.o"
    planted.write_bytes(packs.sealed(planted.stem, b"another's code"))
    cache.chmod(mode)
    assert jit.stored("portable") == (CODE, None)
    assert f"{cache} belongs to, or can be written by, others" in told(recwarn)
    assert len(made) == 1
    assert list(cache.iterdir()) == [planted]


def test_another_user_s_folder_is_not_used(cache: Path, made: list[str], recwarn, monkeypatch) -> None:
    cache.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(jit.os, "geteuid", lambda: os.getuid() + 1)
    assert jit.stored("portable") == (CODE, None)
    assert "belongs to" in told(recwarn)


def test_without_a_writable_home(cache: Path, made: list[str], recwarn, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder can be made; there is one, but nothing can be written to it; there is no home at all."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    assert jit.stored("portable") == (CODE, None)
    assert "for this process only" in told(recwarn)
    monkeypatch.setenv("SOPRO_NP_CACHE", "/dev/null")
    assert jit.stored("portable") == (CODE, None)
    monkeypatch.undo()

    def read_only(*arguments: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(jit.metadata, "version", lambda name: "1.2.3")
    monkeypatch.setattr(build, "compiled", lambda target, scratch: CODE)
    monkeypatch.setenv("SOPRO_NP_CACHE", str(cache))
    monkeypatch.setattr(jit, "_write", read_only)
    assert jit.stored("portable") == (CODE, None)
    assert "could not be kept (Read-only file system)" in told(recwarn)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SOPRO_NP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert jit.stored("portable") == (CODE, None)
    assert "there is no home directory" in told(recwarn)


def test_first_starts_at_the_same_time(cache: Path, made: list[str], recwarn, monkeypatch) -> None:
    """One compiles, the others wait; where files cannot be locked all compile, and nobody sees half a file."""

    def start(n: int) -> list[tuple[bytes, Path | None]]:
        results: list[tuple[bytes, Path | None]] = []
        threads = [threading.Thread(target=lambda: results.append(jit.stored("portable"))) for _ in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    path = cache / f"{jit.object_name('portable')}.o"
    assert start(4) == [(CODE, path)] * 4
    assert len(made) == 1 and "waiting for it" in told(recwarn)

    def no_locks(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    path.unlink()
    monkeypatch.setattr(jit.fcntl, "flock", no_locks)
    assert start(3) == [(CODE, path)] * 3
    assert len(made) == 4
    assert not [file for file in cache.iterdir() if file.suffix == ".part"]


def test_failures_are_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(target: str, scratch: Path) -> bytes:
        raise build.BuildError("x/y: python failed:\nTraceback\n  File\nTypingError: no such thing")

    monkeypatch.setattr(build, "compiled", fails)
    with pytest.raises(OpsError, match="could not be compiled: x/y: python failed: TypingError: no such thing"):
        jit.stored("portable")

    def absent(name: str) -> str:
        raise jit.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(jit.metadata, "version", absent)
    with pytest.raises(OpsError, match=r"no numba: pip install 'numba>="):
        jit.stored("portable")


def test_changed_sources_or_versions_have_another_name(cache: Path, tmp_path: Path, monkeypatch) -> None:
    names = {jit.object_name("portable"), jit.object_name("other")}
    monkeypatch.setattr(jit.metadata, "version", lambda name: "1.2.4")
    names.add(jit.object_name("portable"))
    ignored = shutil.ignore_patterns("packs", "__pycache__")
    for change in ("kernels/rows.py", "kernels/simd/vector.py", "ops/abi.py"):
        tree = tmp_path / change.replace("/", "-")
        shutil.copytree(packs.PACKAGE, tree, ignore=ignored)
        (tree / change).write_text((tree / change).read_text() + "\n")
        monkeypatch.setattr(packs, "PACKAGE", tree)
        monkeypatch.setattr(jit, "source_hash", packs.source_hash.__wrapped__)
        names.add(jit.object_name("portable"))
    assert len(names) == 6


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""
OTHERS = {"safetensors", "soundfile", "soxr", "regex", "threadpoolctl", "cpuinfo", "torch", "huggingface_hub"}


def clean_python(code: str, *blocked: str) -> None:
    done = python("-c", BLOCK.format(blocked=OTHERS | {*blocked}) + code)
    assert done.returncode == 0, done.stderr


def test_the_builder_needs_numpy_alone() -> None:
    clean_python("import sopro_np.ops, sopro_np.kernels.build, sopro_np.ops.native.jit", "numba", "llvmlite")


@needs_numba
def test_the_kernels_need_numpy_and_numba_alone() -> None:
    clean_python("import sopro_np.kernels.compile as c; assert len(list(c.kernels())) > 15")


SUM = """
import json, sys
import numpy as np
from sopro_np import ops
from sopro_np.ops import native
x = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)
k = native.kernels()
y = ops.softmax(ops.gelu(x))
with ops.using("numpy"):
    error = float(np.abs(ops.softmax(ops.gelu(x)) - y).max())
print(ops.current(), k.source, k.target, k.path, error < 1e-6, "numba" in sys.modules, y.tobytes().hex())
"""


@needs_numba
def test_compiling_in_earnest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a linker, from another folder; the second start takes what was kept. As from a pack, bit by bit."""
    for name in [name for name in os.environ if name.startswith("SOPRO_NP_")]:
        monkeypatch.delenv(name)
    settings = {"SOPRO_NP_CACHE": str(tmp_path), "SOPRO_NP_KERNELS": "jit", "PATH": str(tmp_path)}

    def start(**more: str) -> tuple[list[str], str]:
        done = python("-c", SUM, cwd=tmp_path, PYTHONPATH=str(ROOT), **more)
        assert done.returncode == 0, done.stderr
        return done.stdout.split(), done.stderr

    (first, said), (second, silent) = start(**settings), start(**settings)
    assert first == second
    assert "compiling" in said and not silent
    assert first[:3] == ["native", "jit", cpu.fitting()[0]] and first[4:6] == ["True", "False"]
    assert Path(first[3]).parent == tmp_path / "kernels"
    if (packs.PACKS / packs.pack_name(cpu.machine(), cpu.fitting()[0])).exists():
        assert start(SOPRO_NP_KERNELS="pack")[0][6] == first[6]


@needs_numba
def test_operations_and_kernels_agree_which_targets_are_wide() -> None:
    """The one writes 16-bit activations where the other reads them."""
    from sopro_np.kernels import simd

    targets = {name: target for known in simd.TARGETS.values() for name, target in known.items()}
    assert {name for name, target in targets.items() if target.dot2 is not None} == set(WIDE)
    assert {where: set(known) for where, known in simd.TARGETS.items()} == {w: set(n) for w, n in cpu.NEEDS.items()}
