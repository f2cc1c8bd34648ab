"""Products with a single output: lanes are rows, 64 at a time, where otherwise 15 of 16 lanes would work for nothing.

    acc[j] = the output for rows 16 j .. 16 j + 15      one step:  acc[j] += x[j] (one number, or bytes, of 16 rows)
                                                                              times w (the same in every lane)

Rows lie below each other, so 16 x 16 words are turned first: rows become lanes. Every lane adds its products in the
order of the inputs, as in tile.py: the same bits.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sopro_np.kernels.simd.llvm import call
from sopro_np.kernels.simd.narrow import widen_brain, widen_half
from sopro_np.kernels.simd.tile import BYTES, INTEGERS, REALS, V16I, V32B, Tile
from sopro_np.kernels.simd.vector import F32, I16, I32, I64, LANES, TARGET, VF, VI, pointer, splat

VECTORS = 4
ROWS = LANES * VECTORS
WORDS = 16  # of a row that are turned at a time, 4 bytes each
ROOM = 4 * WORDS * ROWS  # bytes for them
Words = namedtuple("Words", "none start start_short turn step scaled write")


def _turned(b: Any, rows: list[Any]) -> list[Any]:
    """16 vectors -> 16 vectors, whose lane i is theirs of row i."""
    for apart in (8, 4, 2, 1):
        lanes = range(LANES)
        low = ir.Constant(VI, [i if not i & apart else LANES + i - apart for i in lanes])
        high = ir.Constant(VI, [i + apart if not i & apart else LANES + i for i in lanes])
        rows = [
            b.shuffle_vector(rows[i], rows[i + apart], low)
            if not i & apart
            else b.shuffle_vector(rows[i - apart], rows[i], high)
            for i in range(LANES)
        ]
    return rows


def words(scheme: str) -> Words:
    """The words for one format of weights."""
    is_integer, wide = scheme == "int8", scheme == "int8" and BYTES["int8"] == 2
    sums, integers = Tile(REALS, 1, VECTORS), Tile(INTEGERS, 1, VECTORS)
    acc = integers if is_integer else sums

    @intrinsic
    def none(typingctx):
        """All sums zero."""
        return sums(), lambda c, b, s, a: ir.Constant(sums.llvm, None)

    @intrinsic
    def start(typingctx, at):
        """Integer sums that start at one int32 per row, side by side."""

        def codegen(context, b, sig, args):
            tile = ir.Constant(integers.llvm, ir.Undefined)
            for j in range(VECTORS):
                own = b.load(pointer(b, b.add(args[0], I64(64 * j)), VI), align=4)
                tile = b.insert_value(tile, own, j)
            return tile

        return integers(types.int64), codegen

    @intrinsic
    def start_short(typingctx, tile, short, sums):
        """tile + what every row is short of its zero, side by side, times the sum of the one output's weights."""

        def codegen(context, b, sig, args):
            tile, short, sums = args
            weights = splat(b, b.load(pointer(b, sums, I32), align=4))
            for j in range(VECTORS):
                own = b.load(pointer(b, b.add(short, I64(64 * j)), VI), align=4)
                tile = b.insert_value(tile, b.add(b.extract_value(tile, j), b.mul(own, weights)), j)
            return tile

        return integers(integers, types.int64, types.int64), codegen

    @intrinsic
    def turn(typingctx, x, stride, out):
        """16 words of 16 rows, row i at `x + i*stride` -> word c of all of them at `out + 4*ROWS*c`."""

        def codegen(context, b, sig, args):
            x, stride, out = args
            rows = [b.load(pointer(b, b.add(x, b.mul(stride, I64(i))), VI), align=1) for i in range(LANES)]
            for c, own in enumerate(_turned(b, rows)):
                b.store(own, pointer(b, b.add(out, I64(4 * ROWS * c)), VI), align=64)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    def weight(b, at):
        """One weight, or those of one word, in every lane."""
        if is_integer:
            if not wide:
                return splat(b, b.load(pointer(b, at, I32), align=4))
            pair = splat(b, b.load(pointer(b, at, I16), align=2))
            return b.bitcast(pair, V32B)
        if scheme == "fp32":
            return splat(b, b.load(pointer(b, at, F32), align=4))
        patterns = b.bitcast(splat(b, b.load(pointer(b, at, I16), align=2)), V16I)
        return widen_half(b, patterns) if scheme == "fp16" else widen_brain(b, patterns)

    @intrinsic
    def step(typingctx, tile, x, w):
        """One word: that of the rows at `x`, the weight at `w`."""

        def codegen(context, b, sig, args):
            tile, x, w = args
            own = weight(b, w)
            for j in range(VECTORS):
                at, old = b.add(x, I64(64 * j)), b.extract_value(tile, j)
                if is_integer:
                    rows = b.load(pointer(b, at, VI), align=64)
                    new = (TARGET.dot2 if wide else TARGET.dot4)(b, old, rows, own)
                else:
                    new = call(b, "llvm.fma.v16f32", VF, b.load(pointer(b, at, VF), align=64), own, old)
                tile = b.insert_value(tile, new, j)
            return tile

        return acc(acc, types.int64, types.int64), codegen

    @intrinsic
    def scaled(typingctx, total, tile, at):
        """total + tile times one float of each row, side by side."""

        def codegen(context, b, sig, args):
            total, tile, at = args
            for j in range(VECTORS):
                scale = b.load(pointer(b, b.add(at, I64(64 * j)), VF), align=4)
                value = b.sitofp(b.extract_value(tile, j), VF)
                total = b.insert_value(
                    total, call(b, "llvm.fma.v16f32", VF, value, scale, b.extract_value(total, j)), j
                )
            return total

        return sums(sums, integers, types.int64), codegen

    @intrinsic
    def write(typingctx, tile, at):
        """64 numbers, side by side."""

        def codegen(context, b, sig, args):
            for j in range(VECTORS):
                b.store(b.extract_value(args[0], j), pointer(b, b.add(args[1], I64(64 * j)), VF), align=4)
            return context.get_dummy_value()

        return types.void(sums, types.int64), codegen

    return Words(none, start, start_short, turn, step, scaled, write)
