"""x86-64 with AVX-512 VNNI (Intel since 2019, AMD since 2022): a 16-lane vector is one register.

`vpdpbusd` multiplies unsigned bytes (the weights, stored with 128 added) by signed ones (the activations, which may
then be broadcast from memory by the same instruction) and adds four products to a 32-bit lane.
"""

from __future__ import annotations

from typing import Any

from sopro_np.kernels.simd.llvm import call
from sopro_np.kernels.simd.target import Target


def dot4(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    return call(builder, "llvm.x86.avx512.vpdpbusd.512", acc.type, acc, w, x)


TARGET = Target(
    "avx512vnni",
    "x86_64-unknown-linux-gnu",
    "x86-64-v4",
    "+avx512vnni,-prefer-256-bit",
    dot4,
    weight_offset=128,
    rows=8,
    vectors=2,
    half=True,
)
