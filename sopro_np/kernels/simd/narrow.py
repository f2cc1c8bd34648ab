"""Small number formats, widened to 32 bits: half precision, bfloat16, bytes, nibbles."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from sopro_np.kernels.simd.llvm import call
from sopro_np.kernels.simd.vector import (
    F16,
    I8,
    I16,
    I32,
    I64,
    INT,
    LANES,
    TARGET,
    VF,
    VI,
    A,
    f32x16,
    first_lanes,
    i32x16,
    pointer,
    word,
)


def widen_half(b: Any, v: Any) -> Any:
    """16 patterns of IEEE half precision -> float32, exactly.

    Where the CPU has no instruction: exponent and fraction moved into place are the number times 2^-112, also if
    it is denormal. (Infinity would become 65536; weights are finite.)
    """
    if TARGET.half:
        return b.fpext(b.bitcast(v, ir.VectorType(F16, LANES)), VF)
    wide = b.zext(v, VI)
    size = b.shl(b.and_(wide, ir.Constant(VI, [0x7FFF] * LANES)), ir.Constant(VI, [13] * LANES))
    size = b.fmul(b.bitcast(size, VF), ir.Constant(VF, [2.0**112] * LANES))
    sign = b.shl(b.and_(wide, ir.Constant(VI, [0x8000] * LANES)), ir.Constant(VI, [16] * LANES))
    return b.bitcast(b.or_(b.bitcast(size, VI), sign), VF)


def widen_brain(b: Any, v: Any) -> Any:
    """16 patterns of bfloat16, the upper halves of float32 -> float32."""
    return b.bitcast(b.shl(b.zext(v, VI), ir.Constant(VI, [16] * LANES)), VF)


def _first(b: Any, at: Any, n: Any, kind: Any) -> Any:
    """The first n elements of a smaller type, zero in the other lanes."""
    name = f"llvm.masked.load.v16{kind}.p0"  # i8, i16
    vector = ir.VectorType(kind, LANES)
    return call(b, name, vector, pointer(b, at, vector), I32(1), first_lanes(b, n), ir.Constant(vector, None))


@word(f32x16, A, INT)
def load_half_up_to(b: Any, at: Any, n: Any) -> Any:
    """Up to 16 numbers of 16 bits (IEEE half precision), widened."""
    return widen_half(b, _first(b, at, n, I16))


@word(f32x16, A, INT)
def load_brain_up_to(b: Any, at: Any, n: Any) -> Any:
    """Up to 16 numbers of 16 bits (bfloat16, the upper half of a float32), widened."""
    return widen_brain(b, _first(b, at, n, I16))


@word(i32x16, A, INT)
def load_bytes_up_to(b: Any, at: Any, n: Any) -> Any:
    """Up to 16 signed bytes, widened."""
    return b.sext(_first(b, at, n, I8), VI)


@word(i32x16, A, INT)
def load_nibbles_up_to(b: Any, at: Any, n: Any) -> Any:
    """Up to 16 numbers of 4 bits, stored as q + 8, the first one lowest; whole 32-bit words are read."""
    pair = ir.Constant(VI, [4 * (i % 8) for i in range(LANES)])
    words = b.load(pointer(b, at, I32), align=4)
    second = b.icmp_signed(">", n, I64(8))
    with b.if_else(second) as (more, fewer):
        with more:
            high = b.load(pointer(b, b.add(at, I64(4)), I32), align=4)
            here = b.block
        with fewer:
            there = b.block
    other = b.phi(I32)
    other.add_incoming(high, here)
    other.add_incoming(I32(0), there)
    lanes = ir.Constant(ir.VectorType(I32, LANES), [0] * 8 + [1] * 8)
    both = b.insert_element(ir.Constant(VI, ir.Undefined), words, I32(0))
    both = b.insert_element(both, other, I32(1))
    spread = b.shuffle_vector(both, ir.Constant(VI, ir.Undefined), lanes)
    nibbles = b.and_(b.lshr(spread, pair), ir.Constant(VI, [15] * LANES))
    return b.sub(nibbles, ir.Constant(VI, [8] * LANES))
