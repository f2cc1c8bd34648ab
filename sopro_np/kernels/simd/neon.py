"""Any 64-bit ARM (Cortex-A53, A72; Raspberry Pi 3 and 4): NEON, a 16-lane vector is four registers.

`smull` and `smull2` multiply 8 signed bytes each, to 16 bits; `addp` adds pairs of products, at most
2 * 127 * 127 = 32258; `sadalp` adds pairs of these to the 32-bit lanes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sopro_np.kernels.simd.llvm import by_parts, call, vector
from sopro_np.kernels.simd.target import Target


def dot(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """One register: 4 lanes."""
    # LLVM knows that both halves of x are the same, and would move w's upper half down by an instruction of its own
    # rather than use `smull2`. Behind a fence it does not know.
    floats = ir.VectorType(ir.FloatType(), 4)
    x = builder.bitcast(call(builder, "llvm.arithmetic.fence.v4f32", floats, builder.bitcast(x, floats)), w.type)
    products = []
    for first in (0, 8):
        pick = ir.Constant(vector(32, 8), list(range(first, first + 8)))
        halves = [builder.shuffle_vector(v, v, pick) for v in (x, w)]
        products.append(call(builder, "llvm.aarch64.neon.smull.v8i16", vector(16, 8), *halves))
    pairs = call(builder, "llvm.aarch64.neon.addp.v8i16", vector(16, 8), *products)
    return builder.add(acc, call(builder, "llvm.aarch64.neon.saddlp.v4i32.v8i16", acc.type, pairs))


TARGET = Target(
    "neon",
    "aarch64-unknown-linux-gnu",
    "cortex-a53",
    "-aes,-sha2,-crc",
    by_parts(dot, 4),
    weight_offset=0,
    rows=4,
    vectors=1,
    half=True,
)
