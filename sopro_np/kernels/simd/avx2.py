"""x86-64 with AVX2 and FMA (Intel since 2013, AMD since 2015): a 16-lane vector is two registers.

`vpmaddubsw` multiplies unsigned bytes by signed ones and adds pairs to 16 bits: |w| times x with the sign of w, at
most 2 * 127 * 127 = 32258, so it never saturates. `vpmaddwd` by ones adds pairs again.
"""

from __future__ import annotations

from typing import Any

from sopro_np.kernels.simd.llvm import by_parts, call, constant, vector
from sopro_np.kernels.simd.target import Target


def dot(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """One register: 8 lanes."""
    size = builder.select(builder.icmp_signed("<", w, constant(w.type, 0)), builder.neg(w), w)
    signed = call(builder, "llvm.x86.avx2.psign.b", x.type, x, w)
    pairs = call(builder, "llvm.x86.avx2.pmadd.ub.sw", vector(16, 16), size, signed)
    return builder.add(acc, call(builder, "llvm.x86.avx2.pmadd.wd", acc.type, pairs, constant(pairs.type, 1)))


TARGET = Target(
    "avx2",
    "x86_64-unknown-linux-gnu",
    "x86-64-v3",
    "",
    by_parts(dot, 2),
    weight_offset=0,
    rows=4,
    vectors=1,
    half=True,
)
