"""Which CPU this is, and which of the kernels' targets it can run."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache
from pathlib import Path

from sopro_np.errors import OpsError

AVX2 = ("avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm")
# Flags of the CPU without which a target must not run, the best target first.
NEEDS: dict[str, dict[str, frozenset[str]]] = {
    "x86_64": {
        "avx512vnni": frozenset(
            ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx2", "fma", "f16c", "bmi2")
        ),
        "avxvnni": frozenset(("avx_vnni", *AVX2)),
        "avx2": frozenset(AVX2),
        "portable": frozenset(),
    },
    "aarch64": {
        "neon_dot": frozenset(("asimd", "asimddp")),
        "neon": frozenset(("asimd",)),
        "portable": frozenset(),
    },
}


def machine() -> str:
    """x86_64, aarch64, or what the system says."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


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


def lacking() -> dict[str, list[str]]:
    """Targets that this CPU cannot run -> the flags that it has not."""
    every = {name: sorted(needs - cpu_flags()) for name, needs in NEEDS.get(machine(), {}).items()}
    return {name: flags for name, flags in every.items() if flags}


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


def system() -> str:
    """This system in words, for errors."""
    return f"{platform.system()} on {machine()}, Python of {sys.maxsize.bit_length() + 1} bits"
