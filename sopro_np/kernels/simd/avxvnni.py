"""x86-64 with AVX-VNNI and without AVX-512 (Intel's desktops and N-series since 2021, AMD's Zen 5): two registers.

`vpdpbusd` as in avx512vnni.py, on registers of 8 lanes. There are sixteen of them, so a tile has fewer rows.
"""

from __future__ import annotations

from typing import Any

from sopro_np.kernels.simd.llvm import by_parts, call
from sopro_np.kernels.simd.target import Target


def dot(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """One register: 8 lanes."""
    x, w = (builder.bitcast(v, acc.type) for v in (x, w))
    return call(builder, "llvm.x86.avx512.vpdpbusd.256", acc.type, acc, w, x)


TARGET = Target(
    "avxvnni",
    "x86_64-unknown-linux-gnu",
    "x86-64-v3",
    "+avxvnni",
    by_parts(dot, 2),
    weight_offset=128,
    rows=6,
    vectors=1,
    half=True,
)
