"""16 lanes to one number, always in the same order: the sum of lane i and i + 8, then 4, 2, 1 apart."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from sopro_np.kernels.simd.llvm import call
from sopro_np.kernels.simd.vector import F32, I1, I16, I32, I64, LANES, VF, VI, f32x16, i32x16, splat, word


def _part(b: Any, v: Any, w: Any, first: int, count: int) -> Any:
    """In every group of 2*count lanes: lanes first.. of v, then lanes first.. of w (each `count` of them)."""
    picks = []
    for group in range(0, LANES, 2 * count):
        picks += [group + first + i for i in range(count)] + [LANES + group + first + i for i in range(count)]
    return b.shuffle_vector(v, w, ir.Constant(VI, picks))


def totals(b: Any, vectors: list[Any]) -> Any:
    """16 vectors -> one, whose lane i is the sum of the lanes of vector i, added in the order of `total`."""
    count = LANES // 2
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.fadd(_part(b, v, w, 0, count), _part(b, v, w, count, count)) for v, w in pairs]
        count //= 2
    back = [int(f"{i:04b}"[::-1], 2) for i in range(LANES)]  # every step has moved one bit of the number
    return b.shuffle_vector(vectors[0], vectors[0], ir.Constant(VI, back))


def _halve(b: Any, v: Any, combine: Any) -> Any:
    """Lane i with lane i + n/2, until one is left."""
    n = v.type.count
    while n > 1:
        n //= 2
        low = ir.Constant(ir.VectorType(I32, n), list(range(n)))
        high = ir.Constant(ir.VectorType(I32, n), list(range(n, 2 * n)))
        undefined = ir.Constant(v.type, ir.Undefined)
        v = combine(b.shuffle_vector(v, undefined, low), b.shuffle_vector(v, undefined, high))
    return b.extract_element(v, I32(0))


@word(types.float32, f32x16)
def total(b: Any, v: Any) -> Any:
    """Sum of the lanes."""
    return _halve(b, v, b.fadd)


@word(types.float32, f32x16)
def largest(b: Any, v: Any) -> Any:
    return _halve(b, v, lambda x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


@word(types.float32, f32x16)
def smallest(b: Any, v: Any) -> Any:
    return _halve(b, v, lambda x, y: b.select(b.fcmp_ordered("<", x, y), x, y))


@word(types.UniTuple(types.float32, 2), f32x16, f32x16)
def extremes(b: Any, high: Any, low: Any) -> Any:
    """(largest lane of high, minus the smallest lane of low), both in one go."""
    half = ir.Constant(VI, [*range(8), *range(LANES, LANES + 8)])
    other = ir.Constant(VI, [*range(8, LANES), *range(LANES + 8, 2 * LANES)])
    low = b.fsub(ir.Constant(VF, [0.0] * LANES), low)
    v = _larger(b, b.shuffle_vector(high, low, half), b.shuffle_vector(high, low, other))
    for step in (4, 2, 1):
        turned = ir.Constant(VI, [i // 8 * 8 + (i + step) % 8 for i in range(LANES)])
        v = _larger(b, v, b.shuffle_vector(v, v, turned))
    pair = ir.Constant(ir.ArrayType(F32, 2), ir.Undefined)
    for i in range(2):
        pair = b.insert_value(pair, b.extract_element(v, I32(8 * i)), i)
    return pair


def _larger(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.fcmp_ordered(">", x, y), x, y)


@word(types.int64, f32x16, types.float32)
def first_equal(b: Any, v: Any, x: Any) -> Any:
    """The first lane that equals x, 16 if none does."""
    same = b.zext(b.bitcast(b.fcmp_ordered("==", v, splat(b, x)), I16), I32)
    marked = b.or_(same, I32(1 << LANES))
    return b.zext(call(b, "llvm.cttz.i32", I32, marked, I1(1)), I64)


@word(types.boolean, f32x16)
def all_zero(b: Any, v: Any) -> Any:
    """Is every lane zero (and none NaN)?"""
    odd = b.bitcast(b.fcmp_unordered("!=", v, ir.Constant(VF, [0.0] * LANES)), I16)
    return b.icmp_unsigned("==", odd, I16(0))


@word(types.int64, i32x16)
def total_i(b: Any, v: Any) -> Any:
    return b.sext(_halve(b, v, b.add), I64)
