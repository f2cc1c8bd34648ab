"""The door to the kernels: which machine code fits this CPU, where it lies, and its addresses.

A kernel pack is a shared object of plain C functions, one per instruction set, compiled ahead of time and named
after the hash of the sources it was made from: `packs/<machine>-<target>-<hash>.so`. It ends with a seal over its
name and contents, so nothing is mapped that is cut short, damaged, or made for another CPU. Where there is no pack,
jit.py compiles the same kernels here.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sopro_np.errors import OpsError
from sopro_np.ops.abi import NEEDS

PACKAGE = Path(__file__).resolve().parents[2]
PACKS = PACKAGE / "packs"
DOORS = ("pack", "jit")
SEAL = hashlib.sha256().digest_size
MOST = 16 << 20  # bytes of machine code; a larger file is none of ours


@dataclass(frozen=True)
class Kernels:
    """Loaded machine code."""

    target: str
    path: Path | None  # of the file it came from; None: compiled for this process alone
    door: str  # one of DOORS
    find: Callable[[str], int]  # symbol -> address
    run: Callable[[int, int, int], None]
    help: Callable[[int, int], None]
    code: Any  # what keeps it mapped

    def address(self, kernel: str) -> int:
        """Where a kernel's code lies."""
        if place := self.find(kernel):
            return place
        raise OpsError(f"{self.path}: has no kernel {kernel}; {remedy()}")


def machine() -> str:
    """x86_64, aarch64, or what the system says."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


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


@cache
def cpu_flags() -> frozenset[str]:
    """What this CPU can do, in the words of /proc/cpuinfo."""
    if machine() == "aarch64":
        return _arm_flags()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    import cpuinfo

    return frozenset(cpuinfo.get_cpu_info().get("flags", ()))  # takes a second, so only where there is no /proc


def _arm_flags() -> frozenset[str]:
    """From the auxiliary vector: also right where /proc/cpuinfo describes another machine (emulators)."""
    try:
        auxiliary = ctypes.CDLL(None).getauxval
    except (AttributeError, OSError):
        return frozenset({"asimd"})  # every 64-bit ARM has it
    auxiliary.restype, auxiliary.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    first, second = auxiliary(16), auxiliary(26)
    bits = {"asimd": first >> 1 & 1, "asimddp": first >> 20 & 1, "i8mm": second >> 13 & 1}
    return frozenset(name for name, there in bits.items() if there)


def fitting() -> list[str]:
    """Targets whose instructions this CPU has, the best first."""
    return [name for name, needs in NEEDS.get(machine(), {}).items() if needs <= cpu_flags()]


def wanted() -> list[str]:
    """The target that SOPRO_NP_TARGET names, if this CPU can run it; without it all that fit, the best first."""
    name = os.environ.get("SOPRO_NP_TARGET")
    if not name:
        return fitting()
    known = NEEDS.get(machine(), {})
    if name not in known:
        raise OpsError(f"SOPRO_NP_TARGET={name}: there are {', '.join(known) or 'no targets'} for {machine()}")
    if missing := sorted(known[name] - cpu_flags()):
        raise OpsError(
            f"SOPRO_NP_TARGET={name}: this CPU lacks {', '.join(missing)}; it can run {', '.join(fitting())}"
        )
    return [name]


def supported() -> bool:
    """Is this a system that kernels are compiled for? (A 32-bit Python on a 64-bit kernel is none.)"""
    return sys.platform == "linux" and sys.maxsize > 2**32 and machine() in NEEDS


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
        symbols = {name: library[name] for name in ("run", "help")}
    except (OSError, AttributeError) as error:
        raise OpsError(f"{path}: not a kernel pack for this machine: {error}; {remedy()}") from None

    def find(name: str) -> int:
        try:
            return ctypes.cast(library[name], ctypes.c_void_p).value or 0
        except AttributeError:
            return 0

    symbols["run"].argtypes, symbols["run"].restype = [ctypes.c_int64] * 3, None
    symbols["help"].argtypes, symbols["help"].restype = [ctypes.c_int64] * 2, None
    return Kernels(target, path, "pack", find, symbols["run"], symbols["help"], library)


def remedy() -> str:
    """How this installation gets packs."""
    if (PACKAGE.parent / "tools" / "build_kernels.py").is_file():
        return "make it with `python tools/build_kernels.py --in-place` (needs numba, and ld from binutils)"
    return "install sopro_np again on a machine with `ld` (binutils), or add the extra `jit`"


def wanted_door() -> str | None:
    """The door that SOPRO_NP_KERNELS names."""
    name = os.environ.get("SOPRO_NP_KERNELS") or None
    if name not in (None, *DOORS):
        raise OpsError(f"SOPRO_NP_KERNELS={name}: the doors to the kernels are {' and '.join(DOORS)}")
    return name


def asked_for() -> bool:
    """Does the environment name a door or a target? Then nothing else will do."""
    return bool(os.environ.get("SOPRO_NP_KERNELS") or os.environ.get("SOPRO_NP_TARGET"))


@cache
def kernels() -> Kernels:
    """The kernels of this process. An error says why there are none."""
    door = wanted_door()
    if not supported():
        raise OpsError(f"native kernels are for 64-bit Linux on {' or '.join(NEEDS)}, this is {_system()}")
    names = wanted()
    if door != "jit":
        for name in names:
            if (path := PACKS / pack_name(machine(), name)).exists():
                return load_pack(path, name)
        stale = sorted(p.name for p in PACKS.glob("*.so")) if PACKS.is_dir() else []
        made = f" ({PACKS} holds {', '.join(stale)}: of other sources or for other CPUs)" if stale else ""
        why = f"no kernel pack {source_hash()} for {machine()} {' or '.join(names)}{made}"
        if door == "pack" or importlib.util.find_spec("numba") is None:
            raise OpsError(f"{why}: {remedy()}")
        logging.getLogger("sopro_np").warning("sopro_np: %s: the JIT's kernels instead", why)
    from sopro_np.ops.native import jit

    return jit.load(names[0])


def _system() -> str:
    return f"{platform.system()} on {machine()}, Python of {sys.maxsize.bit_length() + 1} bits"
