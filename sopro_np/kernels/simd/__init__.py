"""The instruction sets. One is chosen per process (`SOPRO_NP_BUILD_TARGET`), before a kernel is compiled."""

from __future__ import annotations

import os
import platform

from sopro_np.kernels.simd import avx2, avx512vnni, neon, neon_dot, portable
from sopro_np.kernels.simd.target import Target

ARM = ("aarch64", "arm64")
TARGETS: dict[str, dict[str, Target]] = {
    "x86_64": {"avx512vnni": avx512vnni.TARGET, "avx2": avx2.TARGET, "portable": portable.target("x86_64")},
    "aarch64": {"neon_dot": neon_dot.TARGET, "neon": neon.TARGET, "portable": portable.target("aarch64")},
}


def machine() -> str:
    """x86_64 or aarch64, or what the system says."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def chosen() -> Target:
    """The target of this process, "machine/name" in the environment; without one, the portable one of this machine."""
    text = os.environ.get("SOPRO_NP_BUILD_TARGET") or f"{machine()}/portable"
    where, _, name = text.partition("/")
    return TARGETS[where][name]
