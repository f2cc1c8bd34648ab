"""x86-64 with AVX2 and FMA (Intel since 2013, AMD since 2015): a 16-lane vector is two registers.

int8: `vpmaddwd` multiplies 16-bit numbers and adds pairs to 32 bits. So weights are widened in the register
(`vpmovsxbw`, once for all rows of a tile), and activations are 16-bit numbers already (`abi.WIDE`): two instructions
for 16 products.
int4: `vpmaddubsw` multiplies unsigned bytes, the weights from 0 to 15, by signed ones and adds pairs to 16 bits;
`vpmaddwd` by ones adds pairs again. (Bytes of int8 weights would need their sign put into x first: another instruction,
for the two ports that multiply.)
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sopro_np.kernels.simd.llvm import by_parts, call, constant, cut, joined, vector
from sopro_np.kernels.simd.target import Target


def dot(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """One register: 8 lanes, 4 products in each. w: unsigned, small."""
    pairs = call(builder, "llvm.x86.avx2.pmadd.ub.sw", vector(16, 16), w, x)
    return builder.add(acc, call(builder, "llvm.x86.avx2.pmadd.wd", acc.type, pairs, constant(pairs.type, 1)))


def dot2(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """acc <16 x i32> + 2 products in every lane: x <16 x i32>, pairs of 16 bits; w <32 x i8>, pairs of bytes."""
    x, parts = builder.bitcast(x, vector(16, 32)), []
    w = builder.sext(w, vector(16, 32))
    for i, own in enumerate(cut(builder, acc, 2)):
        half = ir.Constant(vector(32, 16), list(range(16 * i, 16 * i + 16)))
        pair = [builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), half) for v in (x, w)]
        parts.append(builder.add(own, call(builder, "llvm.x86.avx2.pmadd.wd", own.type, *pair)))
    return joined(builder, parts)


TARGET = Target(
    "avx2",
    "x86_64-unknown-linux-gnu",
    "x86-64-v3",
    "",
    by_parts(dot, 2),
    weight_offset=0,
    rows=6,
    vectors=1,
    half=True,
    dot2=dot2,
)
