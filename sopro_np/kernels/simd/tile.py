"""A tile: rows x vectors accumulators that live in registers while a kernel runs along the inputs.

    acc[i][j] = 16 outputs of vector j for row i      one step:  acc[i][j] += x[i] (one number or 4 bytes, in every
                                                                  lane) times w[j] (16 numbers, or 16 x 4 bytes)

Every accumulator adds its products in the order of the inputs, so a result does not depend on the tile's size.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, register_model

from sopro_np.kernels.simd.llvm import call
from sopro_np.kernels.simd.narrow import widen_brain, widen_half
from sopro_np.kernels.simd.reduce import totals
from sopro_np.kernels.simd.vector import F32, I16, I32, I64, LANES, TARGET, VF, VI, f32x16, pointer, splat

V16I = ir.VectorType(I16, LANES)
V32B, V64B = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(8), 64)
INTEGERS, REALS = VI, VF
BYTES = {"int8": 2 if TARGET.dot2 is not None else 1, "int4": 1}  # of an activation
WIDTHS = {"int8": 64, "int4": 64, "fp32": 64, "fp16": 32, "bf16": 32}  # bytes of weights of one vector and step


class Tile(types.Type):
    """rows x vectors registers of 16 lanes."""

    def __init__(self, kind: Any, rows: int, vectors: int) -> None:
        self.kind, self.rows, self.vectors = kind, rows, vectors
        self.llvm = ir.ArrayType(kind, rows * vectors)
        super().__init__(name=f"tile<{rows}x{vectors}x{kind}>")


@register_model(Tile)
class _TileModel(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def _at(b: Any, base: Any, step: Any, times: int) -> Any:
    return base if times == 0 else b.add(base, b.mul(step, I64(times)))


def _weight(b: Any, address: Any, scheme: str) -> Any:
    """16 weights (or 16 x 4) as a register."""
    if scheme in ("int8", "int4"):
        return b.load(pointer(b, address, VI), align=4)
    if scheme == "fp32":
        return b.load(pointer(b, address, VF), align=4)
    if scheme == "fp16":
        return widen_half(b, b.load(pointer(b, address, V16I), align=2))
    return widen_brain(b, b.load(pointer(b, address, V16I), align=2))


Words = namedtuple("Words", "zeros start start_short step scaled grouped added spill write")


def words(rows: int, vectors: int, scheme: str) -> Words:
    """The words for one shape and one format of weights."""
    reals, integers = Tile(REALS, rows, vectors), Tile(INTEGERS, rows, vectors)
    is_integer = scheme in ("int8", "int4")
    acc = integers if is_integer else reals
    wide = scheme == "int8" and TARGET.dot2 is not None
    dot = TARGET.dot2 if wide else TARGET.dot4
    cells = [(i, j) for i in range(rows) for j in range(vectors)]

    @intrinsic
    def zeros(typingctx):
        """All sums zero."""
        return reals(), lambda c, b, s, a: ir.Constant(reals.llvm, None)

    @intrinsic
    def start(typingctx, at, stride):
        """Integer sums that start at one int32 per row: row i at `at + i*stride`."""

        def codegen(context, b, sig, args):
            tile = ir.Constant(integers.llvm, ir.Undefined)
            for i in range(rows):
                value = splat(b, b.load(pointer(b, _at(b, args[0], args[1], i), I32), align=4))
                for j in range(vectors):
                    tile = b.insert_value(tile, value, i * vectors + j)
            return tile

        return integers(types.int64, types.int64), codegen

    @intrinsic
    def start_short(typingctx, tile, short, stride, sums, sums_stride):
        """tile + what row i is short of its zero (`short + i*stride`) times the sums of vector j's weights."""

        def codegen(context, b, sig, args):
            tile, short, stride, sums, sums_stride = args
            weights = [b.load(pointer(b, _at(b, sums, sums_stride, j), VI), align=4) for j in range(vectors)]
            for i in range(rows):
                value = splat(b, b.load(pointer(b, _at(b, short, stride, i), I32), align=4))
                for j in range(vectors):
                    old = b.extract_value(tile, i * vectors + j)
                    tile = b.insert_value(tile, b.add(old, b.mul(value, weights[j])), i * vectors + j)
            return tile

        return integers(integers, types.int64, types.int64, types.int64, types.int64), codegen

    def multiply(b, tile, x, x_stride, weights):
        for i in range(rows):
            kind = I32 if is_integer else F32
            row = splat(b, b.load(pointer(b, _at(b, x, x_stride, i), kind), align=1))
            for j in range(vectors):
                old = b.extract_value(tile, i * vectors + j)
                if is_integer:
                    new = dot(b, old, row, weights[j])
                else:
                    new = call(b, "llvm.fma.v16f32", VF, row, weights[j], old)
                tile = b.insert_value(tile, new, i * vectors + j)
        return tile

    @intrinsic
    def step(typingctx, tile, x, x_stride, w, w_stride):
        """One step along the inputs: row i of x at `x + i*x_stride`, vector j of the weights at `w + j*w_stride`."""

        def codegen(context, b, sig, args):
            tile, x, x_stride, w, w_stride = args
            if wide:  # two inputs, then the next two
                for half in range(2):
                    places = [b.add(_at(b, w, w_stride, j), I64(32 * half)) for j in range(vectors)]
                    weights = [b.load(pointer(b, place, V32B), align=4) for place in places]
                    tile = multiply(b, tile, b.add(x, I64(4 * half)), x_stride, weights)
                return tile
            weights = [_weight(b, _at(b, w, w_stride, j), scheme) for j in range(vectors)]
            if scheme != "int4":
                return multiply(b, tile, x, x_stride, weights)
            low = ir.Constant(VI, [0x0F0F0F0F] * LANES)  # a byte holds two weights, four inputs apart
            four = ir.Constant(V64B, [4] * 64)
            tile = multiply(b, tile, x, x_stride, [b.and_(w, low) for w in weights])
            weights = [b.bitcast(b.lshr(b.bitcast(w, V64B), four), VI) for w in weights]
            return multiply(b, tile, b.add(x, I64(4)), x_stride, weights)

        return acc(acc, types.int64, types.int64, types.int64, types.int64), codegen

    def accumulate(source, per_row):
        """A word: sums + tile times a float, the one of a row (row i's at `at + i*stride`), or 16 of a vector."""

        @intrinsic
        def scaled(typingctx, sums, tile, at, stride):
            def codegen(context, b, sig, args):
                sums, tile, at, stride = args
                for n in range(rows if per_row else vectors):
                    place = pointer(b, _at(b, at, stride, n), F32 if per_row else VF)
                    scale = b.load(place, align=4)
                    if per_row:
                        scale = splat(b, scale)
                    for k, cell in enumerate(cells):
                        if cell[0 if per_row else 1] == n:
                            value = b.extract_value(tile, k)
                            value = b.sitofp(value, VF) if source is integers else value
                            new = call(b, "llvm.fma.v16f32", VF, value, scale, b.extract_value(sums, k))
                            sums = b.insert_value(sums, new, k)
                return sums

            return reals(reals, source, types.int64, types.int64), codegen

        return scaled

    @intrinsic
    def spill(typingctx, sums, at, stride):
        """Write a float tile to a buffer: vector j of row i at `at + i*stride + 64*j`."""

        def codegen(context, b, sig, args):
            for k, (i, j) in enumerate(cells):
                place = b.add(_at(b, args[1], args[2], i), I64(64 * j))
                b.store(b.extract_value(args[0], k), pointer(b, place, VF), align=64)
            return context.get_dummy_value()

        return types.void(reals, types.int64, types.int64), codegen

    @intrinsic
    def write(typingctx, sums, y, residual, row, factor, bias):
        """residual + bias + factor * sums, straight to where it belongs: row i, vector j at `y + i*row + 64*j`.

        residual, factor, bias: addresses, 0 where there is none.
        """

        def vectors_at(b, address, default):
            """One vector per j: from memory, or the default where the address is 0."""
            with b.if_else(b.icmp_unsigned("!=", address, I64(0))) as (there, absent):
                with there:
                    loaded = [b.load(pointer(b, b.add(address, I64(64 * j)), VF), align=4) for j in range(vectors)]
                    first = b.block
                with absent:
                    second = b.block
            result = []
            for value in loaded:
                phi = b.phi(VF)
                phi.add_incoming(value, first)
                phi.add_incoming(ir.Constant(VF, [default] * LANES), second)
                result.append(phi)
            return result

        def codegen(context, b, sig, args):
            sums, y, residual, row, factor, bias = args
            factors, shifts = vectors_at(b, factor, 1.0), vectors_at(b, bias, 0.0)
            values = [
                call(b, "llvm.fma.v16f32", VF, b.extract_value(sums, k), factors[j], shifts[j])
                for k, (_, j) in enumerate(cells)
            ]
            with b.if_else(b.icmp_unsigned("!=", residual, I64(0))) as (with_residual, without):
                with with_residual:
                    for value, (i, j) in zip(values, cells, strict=True):
                        at = b.add(_at(b, residual, row, i), I64(64 * j))
                        value = b.fadd(value, b.load(pointer(b, at, VF), align=4))
                        b.store(value, pointer(b, b.add(_at(b, y, row, i), I64(64 * j)), VF), align=4)
                with without:
                    for value, (i, j) in zip(values, cells, strict=True):
                        b.store(value, pointer(b, b.add(_at(b, y, row, i), I64(64 * j)), VF), align=4)
            return context.get_dummy_value()

        return types.void(reals, *[types.int64] * 5), codegen

    scaled, grouped = accumulate(integers, per_row=True), accumulate(integers, per_row=False)
    return Words(zeros, start, start_short, step, scaled, grouped, accumulate(reals, per_row=True), spill, write)


def dots() -> tuple[Any, Any, Any]:
    """The words for 16 dot products of one vector with 16 rows: none, more, sums."""
    sixteen = Tile(REALS, LANES, 1)

    @intrinsic
    def none(typingctx):
        return sixteen(), lambda c, b, s, a: ir.Constant(sixteen.llvm, None)

    @intrinsic
    def more(typingctx, tile, x, rows, stride):
        """16 more columns: x (a vector) times the numbers at `rows + i*stride`."""

        def codegen(context, b, sig, args):
            tile, x, rows, stride = args
            for i in range(LANES):
                row = b.load(pointer(b, _at(b, rows, stride, i), VF), align=4)
                tile = b.insert_value(tile, call(b, "llvm.fma.v16f32", VF, x, row, b.extract_value(tile, i)), i)
            return tile

        return sixteen(sixteen, f32x16, types.int64, types.int64), codegen

    @intrinsic
    def sums(typingctx, tile):
        """Lane i: the dot product with row i."""
        return f32x16(sixteen), lambda c, b, s, a: totals(b, [b.extract_value(a[0], i) for i in range(LANES)])

    return none, more, sums


def scratch(size: int) -> Any:
    """A word that returns the address of `size` bytes on the stack, aligned to 64."""

    @intrinsic
    def buffer(typingctx):
        def codegen(context, b, sig, args):
            with b.goto_entry_block():
                memory = b.alloca(ir.ArrayType(ir.IntType(8), size))
                memory.align = 64
            return b.ptrtoint(memory, I64)

        return types.int64(), codegen

    return buffer
