"""64-bit ARM with dot products (Cortex-A55, A76 and later, Raspberry Pi 5, Apple): a vector is four registers.

`sdot` multiplies signed bytes and adds four products to a 32-bit lane.
"""

from __future__ import annotations

from typing import Any

from sopro_np.kernels.simd.llvm import by_parts, call
from sopro_np.kernels.simd.target import Target


def dot(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """One register: 4 lanes."""
    return call(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", acc.type, acc, x, w)


TARGET = Target(
    "neon_dot",
    "aarch64-unknown-linux-gnu",
    "cortex-a76",
    "+dotprod,-fullfp16,-rcpc,-ssbs,-aes,-sha2,-crc",
    by_parts(dot, 4),
    weight_offset=0,
    rows=4,
    vectors=1,
    half=True,
)
