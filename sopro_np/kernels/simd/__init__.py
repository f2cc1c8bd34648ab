"""The instruction sets. One is chosen per process (`SOPRO_NP_BUILD_TARGET`), before a kernel is compiled."""

from __future__ import annotations

import os

from sopro_np.kernels.simd import avx2, avx512vnni, avxvnni, neon, neon_dot, portable
from sopro_np.kernels.simd.target import Target
from sopro_np.ops.native.cpu import machine

TARGETS: dict[str, dict[str, Target]] = {
    "x86_64": {
        "avx512vnni": avx512vnni.TARGET,
        "avxvnni": avxvnni.TARGET,
        "avx2": avx2.TARGET,
        "portable": portable.target("x86_64"),
    },
    "aarch64": {"neon_dot": neon_dot.TARGET, "neon": neon.TARGET, "portable": portable.target("aarch64")},
}


def chosen() -> Target:
    """The target of this process, "machine/name" in the environment; without one, the portable one of this machine."""
    text = os.environ.get("SOPRO_NP_BUILD_TARGET") or f"{machine()}/portable"
    where, _, name = text.partition("/")
    return TARGETS[where][name]
