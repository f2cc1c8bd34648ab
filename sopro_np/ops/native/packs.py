"""Kernel packs: machine code in files, named after the sources it was made from, sealed, and mapped.

A pack is a shared object of plain C functions, one per instruction set, compiled ahead of time:
`packs/<machine>-<target>-<hash>.so`. It ends with a seal over its name and contents, so nothing is mapped that is cut
short, damaged, or made for another CPU.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sopro_np.errors import OpsError

PACKAGE = Path(__file__).resolve().parents[2]
PACKS = PACKAGE / "packs"
SEAL = hashlib.sha256().digest_size
MOST = 16 << 20  # bytes of machine code; a larger file is none of ours


@dataclass(frozen=True)
class Kernels:
    """Loaded machine code."""

    target: str
    path: Path | None  # of the file it came from; None: compiled for this process alone
    source: str  # "pack" or "jit"
    find: Callable[[str], int]  # symbol -> address
    run: Callable[[int, int, int], None]
    worker: Callable[[int, int, int], None]
    code: Any  # what keeps it mapped

    def address(self, kernel: str) -> int:
        """Where a kernel's code lies."""
        if place := self.find(kernel):
            return place
        raise OpsError(f"{self.path}: has no kernel {kernel}; {remedy()}")


@cache
def source_hash() -> str:
    """First 12 digits of the SHA-256 over everything that a kernel's code depends on."""
    digest = hashlib.sha256()
    sources = [*PACKAGE.glob("kernels/**/*.py"), PACKAGE / "ops" / "abi.py"]
    for path in sorted(sources, key=lambda p: p.relative_to(PACKAGE).as_posix()):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def pack_name(where: str, target: str) -> str:
    """File name of the pack of one target."""
    return f"{where}-{target}-{source_hash()}.so"


def sealed(name: str, code: bytes) -> bytes:
    """Machine code as it is stored under that name (without ending): followed by its seal."""
    return code + hashlib.sha256(name.encode() + b"\0" + code).digest()


def unsealed(name: str, data: bytes) -> bytes:
    """The machine code of a stored file; ValueError says what is wrong with it."""
    code = data[:-SEAL]
    if len(data) > MOST or not code or sealed(name, code) != data:
        raise ValueError("it is empty" if not data else "it is cut short, damaged, renamed, or not a pack at all")
    return code


def sound(path: Path) -> str:
    """What is wrong with a pack; nothing, if it is sound."""
    try:
        with path.open("rb") as file:
            unsealed(path.stem, file.read(MOST + 1))
    except ValueError as error:
        return str(error)
    except OSError as error:
        return error.strerror or "unreadable"
    return ""


def load_pack(path: Path, target: str) -> Kernels:
    """Map a shared object into this process."""
    if wrong := sound(path):
        raise OpsError(f"{path}: not a sound kernel pack: {wrong}; {remedy()}")
    try:
        library = ctypes.CDLL(str(path))
        symbols = {name: library[name] for name in ("run", "worker")}
    except (OSError, AttributeError) as error:
        raise OpsError(f"{path}: not a kernel pack for this machine: {error}; {remedy()}") from None

    def find(name: str) -> int:
        try:
            return ctypes.cast(library[name], ctypes.c_void_p).value or 0
        except AttributeError:
            return 0

    symbols["run"].argtypes, symbols["run"].restype = [ctypes.c_int64] * 3, None
    symbols["worker"].argtypes, symbols["worker"].restype = [ctypes.c_int64] * 3, None
    return Kernels(target, path, "pack", find, symbols["run"], symbols["worker"], library)


def remedy() -> str:
    """How this installation gets packs."""
    if (PACKAGE.parent / "tools" / "build_kernels.py").is_file():
        return "make it with `python tools/build_kernels.py --in-place` (needs numba, and ld from binutils)"
    return "install sopro_np again on a machine with `ld` (binutils), or add the extra `jit`"
