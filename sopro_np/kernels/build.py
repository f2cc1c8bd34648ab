"""Targets -> kernel packs: a compiler process for each, then the linker."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sopro_np.ops.native.cpu import NEEDS, machine
from sopro_np.ops.native.packs import PACKAGE, pack_name, sealed, sound, source_hash

ROOT = PACKAGE.parent
# Modules come from where they come from here, in the same order: in PYTHONPATH, site-packages would stand before the
# standard library, and a package there may be named like a part of it.
COMPILE = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
import runpy
runpy.run_module("sopro_np.kernels.compile", run_name="__main__", alter_sys=True)
"""
FLAGS = ("-shared", "--gc-sections", "-s")


class BuildError(Exception):
    """A pack could not be made."""


class ToolMissing(BuildError):
    """This machine lacks what packs are made with; the message says what."""


def linker(where: str) -> str:
    """The GNU or LLVM linker for that architecture."""
    names = ["ld"] if where == machine() else []
    names += [f"{where}-linux-gnu-ld", "ld.lld"]
    for name in names:
        if found := shutil.which(name):
            return found
    package = "binutils" if where == machine() else f"binutils-{where.replace('_', '-')}-linux-gnu"
    raise ToolMissing(f"no linker for {where} (looked for {', '.join(names)}): install {package}")


def targets_of(where: str) -> list[str]:
    """All targets of a machine, as `build` wants them."""
    if where not in NEEDS:
        raise BuildError(f"there are no kernels for {where}, but for {', '.join(NEEDS)}")
    return [f"{where}/{name}" for name in NEEDS[where]]


def build(targets: Iterable[str], folder: Path, jobs: int) -> Iterator[Path]:
    """Make the packs of these targets ("machine/name") in `folder`; packs of older sources are removed."""
    paths = {target: folder / pack_name(*target.split("/")) for target in targets}
    absent = [target for target, path in paths.items() if sound(path)]
    linkers = {target: linker(target.partition("/")[0]) for target in absent}
    if absent:
        _check_numba()
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        results = {target: pool.submit(_build, target, linkers[target], paths[target]) for target in absent}
        try:
            for target, path in paths.items():
                if target in results:
                    results[target].result()
                yield path
        finally:
            pool.shutdown(cancel_futures=True)
    known = "|".join(f"{where}-{name}" for where, names in NEEDS.items() for name in names)
    for old in folder.glob("*.so"):
        if re.fullmatch(rf"({known})-[0-9a-f]{{12}}\.so", old.name) and not old.stem.endswith(source_hash()):
            old.unlink(missing_ok=True)


def compiled(target: str, scratch: Path) -> bytes:
    """The object file of a target. `scratch`: an empty folder of our own."""
    code = scratch / "kernels.o"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    environment |= {"SOPRO_NP_BUILD_TARGET": target}
    _check_sources(target)
    search = json.dumps([*dict.fromkeys(os.path.abspath(folder) for folder in sys.path), str(ROOT)])
    _run([sys.executable, "-c", COMPILE, str(code), search], scratch, environment, target)
    _check_sources(target)
    return code.read_bytes()


def _build(target: str, linker: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        compiled(target, scratch)
        _run([linker, *FLAGS, "-o", "kernels.so", "kernels.o"], scratch, dict(os.environ), target)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part")
        part.write_bytes(sealed(path.stem, (scratch / "kernels.so").read_bytes()))
        os.replace(part, path)


def _check_sources(target: str) -> None:
    """What is compiled now must be what this process has given its name to."""
    if source_hash.__wrapped__() != source_hash():
        raise BuildError(f"{target}: the sources of the kernels have changed since the start: start again")


def _check_numba() -> None:
    """It may be absent, or installed and broken."""
    for package in ("numba", "llvmlite"):
        if importlib.util.find_spec(package) is None:
            raise ToolMissing(f"{package} is not installed: pip install numba")
    command = [sys.executable, "-c", "import numba"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolMissing(f"numba cannot be imported: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def _run(command: list[str], folder: Path, environment: dict[str, str], target: str) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{target}: {Path(command[0]).name} failed:\n{done.stderr[-4000:]}")
