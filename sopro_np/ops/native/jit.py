"""The other source of machine code: the same kernels, compiled on this machine, where there is no pack (extra `jit`).

A process of its own compiles them, as it does for a pack. The object file is kept in a folder of this user's under
a name that tells everything it depends on, and sealed like a pack; it is checked before it becomes code, and there
is no pickle in it. LLVM's own loader puts it into this process, so no linker is needed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from sopro_np.errors import OpsError, SoproWarning, UsageError
from sopro_np.files import cache_dir
from sopro_np.ops.native.cpu import machine
from sopro_np.ops.native.packs import MOST, Kernels, sealed, source_hash, unsealed

PIP = "pip install 'numba>=0.68.1,<0.69'"
_compiling = threading.Lock()


def load(target: str) -> Kernels:
    """The kernels of that target, compiled now or earlier."""
    with _compiling:
        code, path = stored(target)
    find, engine = _loaded(code)
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(find("run"))
    worker = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(find("worker"))
    return Kernels(target, path, "jit", find, run, worker, engine)


def object_name(target: str) -> str:
    """File name, without ending, of the code of this target: of everything that it depends on."""
    try:
        versions = [f"{name}{metadata.version(name)}" for name in ("numba", "llvmlite")]
    except metadata.PackageNotFoundError as error:
        raise OpsError(f"kernels cannot be compiled here: no {error.name}: {PIP}") from None
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return "-".join([machine(), target, source_hash(), *versions, python])


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return cache_dir() / "kernels"


def stored(target: str) -> tuple[bytes, Path | None]:
    """Machine code from the cache; if need be, compiled and put there. None: it could not be kept."""
    name = object_name(target)
    try:
        folder = cache_folder()
        directory = _opened(folder)
    except (OSError, UsageError) as error:  # UsageError: there is no home
        return _compiled(target, f"for this process only ({error})"), None
    path, code = folder / f"{name}.o", None
    try:
        code = _read(directory, name)
        if code is None:
            with _alone(directory, name):
                code = _read(directory, name)
                if code is None:
                    code = _compiled(target, f"once, kept in {folder}")
                    _write(directory, name, code)
        return code, path
    except OSError as error:
        _tell(f"{path}: the kernels could not be kept ({error.strerror})")
        return code or _compiled(target, "for this process only"), None
    finally:
        os.close(directory)


def _opened(folder: Path) -> int:
    """The cache folder, made if need be. Code is not taken from where others could have put it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if not _ours(directory):
        os.close(directory)
        raise PermissionError(f"{folder} belongs to, or can be written by, others: chmod 700, or set SOPRO_NP_CACHE")
    return directory


def _ours(file: int) -> bool:
    facts = os.fstat(file)
    return facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(directory: int, name: str) -> bytes | None:
    """Sound code of that name, or None."""
    file = -1
    try:
        file = os.open(f"{name}.o", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(file).st_mode) or not _ours(file):
            raise ValueError("it is no file, or belongs to, or can be written by, others")
        with open(file, "rb", closefd=False) as stream:
            return unsealed(name, stream.read(MOST + 1))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _tell(f"{name}.o in the cache is not used: {error}")
        return None
    finally:
        if file >= 0:
            os.close(file)


def _write(directory: int, name: str, code: bytes) -> None:
    """All of it or nothing, whoever writes at the same time."""
    part = f".{name}.{os.urandom(6).hex()}.part"  # containers that share a home have equal process ids
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    try:
        with open(file, "wb") as stream:
            stream.write(sealed(name, code))
        os.replace(part, f"{name}.o", src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise


@contextmanager
def _alone(directory: int, name: str) -> Iterator[None]:
    """Only one process compiles; where files cannot be locked each one does, which is also right."""
    lock = -1
    try:
        with suppress(OSError):
            lock = os.open(f".{name}.lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _tell("another process is compiling the kernels: waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        if lock >= 0:
            os.close(lock)


def _compiled(target: str, how: str) -> bytes:
    from sopro_np.kernels.build import BuildError, compiled

    _tell(f"compiling the kernels for {machine()} {target}, about 20 s, {how}")
    start = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="sopro_np-") as scratch:
            code = compiled(f"{machine()}/{target}", Path(scratch))
    except (BuildError, OSError) as error:
        first, *_, last = [line for line in str(error).splitlines() if line.strip()] * 2
        raise OpsError(f"the kernels could not be compiled: {first} {last if last != first else ''}".rstrip()) from None
    _tell(f"the kernels are compiled ({time.monotonic() - start:.0f} s)")
    return code


def _loaded(code: bytes) -> tuple[Callable[[str], int], Any]:
    """An object file -> where its functions lie in this process, and what keeps them there."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(""), llvm.Target.from_default_triple().create_target_machine()
    )
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine.get_function_address, engine


def _tell(line: str) -> None:
    warnings.warn(line, SoproWarning, stacklevel=2)
