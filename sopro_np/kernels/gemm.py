"""Matrix products and convolutions: rows of x times panels of weights, and what follows at once.

    y[t] = residual[t] + scale * act(bias + sum_k W_k x[t*stride + k*dilation])

Weights lie in panels of 16 outputs: for every step along the inputs the 16 outputs' weights stand
side by side, one number each (float formats), four bytes each (int8), or eight nibbles each behind their scales
(int4). A tile of some rows and some vectors (16 lanes, a panel each) accumulates in registers, is written to a small
buffer, and leaves it finished: scaled, biased, activated. `finish` here and `write` in simd/tile.py are the same
epilogue twice: a change of one is a change of both.
A piece of work goes through its rows in strips: all its weights for one strip, then the next, so that a strip of x
stays in the fastest cache and a row of y is written in one go.
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import gelu, inline, load_up_to, sigmoid, store_up_to, tanh
from sopro_np.kernels.simd import columns, tile
from sopro_np.kernels.simd.vector import add, fma, load, load_real, mul, real, store
from sopro_np.ops.abi import ACTS

ROWS, VECTORS = tile.TARGET.rows, tile.TARGET.vectors
FEW = min(4, ROWS)  # rows of the smaller tile
ONE_ROW = 4  # vectors of a tile with a single row
GROUP = max(VECTORS, 2)  # vectors that are finished together: a GLU needs a pair
GELU, GLU, TANH = (ACTS.index(name) for name in ("gelu", "glu", "tanh"))
ONE, ZERO = np.float32(1), np.float32(0)


@inline
def present(address, v):
    """Vector v of an array that may be absent."""
    return address + 64 * v if address != 0 else 0


@inline
def is_plain(args, v, vectors):
    """Can these vectors go straight to y? No activation, no scale, and all 16 outputs of each exist."""
    left = args.width - 16 * (v + vectors)
    return args.act == 0 and args.scale == 0 and left >= 0


def make_tile(rows: int, vectors: int, scheme: str):
    """A function that computes one tile, row t.. of x, vector v.. of the weights, and writes it to y where that is
    all (`direct`), else leaves the sums in a buffer."""
    words = tile.words(rows, vectors, scheme)
    zeros, start, step, scaled = words.zeros, words.start, words.step, words.scaled
    grouped, added, spill, write = words.grouped, words.added, words.spill, words.write
    width, four = tile.WIDTHS[scheme], 4 * tile.BYTES.get(scheme, 4)

    @inline
    def leave(args, sums, t, v, direct, buffer, buffer_stride):
        if direct:
            row, residual = 4 * args.width, args.residual
            if residual != 0:
                residual += t * row + 64 * v
            y = args.y + t * row + 64 * v
            factor, bias = present(args.w_scale, v), present(args.bias, v)
            write(sums, y, residual, row, factor, bias)
        else:
            spill(sums, buffer, buffer_stride)

    def integers(args, t, v, direct, buffer, buffer_stride):
        taps, steps = args.taps, args.steps
        x_stride, tap_stride = args.x_stride, args.tap_stride
        scale_stride, scale_tap = args.scale_stride, args.scale_tap
        x = args.x + t * x_stride
        row_scale = args.row_scale + t * scale_stride
        row_start = args.row_start + t * scale_stride
        panel = args.panel_bytes
        w = args.w + v * panel
        sums = zeros()
        for k in range(taps):
            acc = start(row_start + k * scale_tap, scale_stride)
            at = x + k * tap_stride
            for _ in range(steps):
                acc = step(acc, at, x_stride, w, panel)
                at += four
                w += width
            sums = scaled(sums, acc, row_scale + k * scale_tap, scale_stride)
        leave(args, sums, t, v, direct, buffer, buffer_stride)

    def groups_of_32(args, t, v, direct, buffer, buffer_stride):
        taps, groups = args.taps, args.steps
        x_stride, tap_stride = args.x_stride, args.tap_stride
        scale_stride, scale_tap = args.scale_stride, args.scale_tap
        x = args.x + t * x_stride
        row_scale = args.row_scale + t * scale_stride
        row_start = args.row_start + t * scale_stride * groups
        panel = args.panel_bytes
        w = args.w + v * panel
        total = zeros()
        for k in range(taps):
            at, begin = x + k * tap_stride, row_start + k * scale_tap * groups
            sums = zeros()
            for g in range(groups):
                acc = start(begin + 4 * g, scale_stride * groups)
                for i in range(4):
                    acc = step(acc, at + 8 * i, x_stride, w + 64 + 64 * i, panel)
                sums = grouped(sums, acc, w, panel)
                at += 32
                w += 320
            total = added(total, sums, row_scale + k * scale_tap, scale_stride)
        leave(args, total, t, v, direct, buffer, buffer_stride)

    def reals(args, t, v, direct, buffer, buffer_stride):
        taps, steps = args.taps, args.steps
        x_stride, tap_stride = args.x_stride, args.tap_stride
        x = args.x + t * x_stride
        panel = args.panel_bytes
        w = args.w + v * panel
        sums = zeros()
        for k in range(taps):
            at = x + k * tap_stride
            for _ in range(steps):
                sums = step(sums, at, x_stride, w, panel)
                at += 4
                w += width
        leave(args, sums, t, v, direct, buffer, buffer_stride)

    return inline({"int8": integers, "int4": groups_of_32}.get(scheme, reals))


@inline
def finish(args, t, v, rows, vectors, buffer, buffer_stride):
    """Sums -> outputs, for `rows` rows from t and `vectors` vectors from v (for a GLU: pairs of value and gate)."""
    act = args.act
    w_scale, bias, scale = args.w_scale, args.bias, args.scale
    width = args.width
    y, residual, row = args.y, args.residual, 4 * width
    pair = 2 if act == GLU else 1
    for j in range(0, vectors, pair):
        column = (v + j) // pair * 16
        left = width - column
        factor, shift = real(ONE), real(ZERO)
        gate_factor, gate_shift, gain = factor, shift, factor
        if w_scale != 0:
            factor = load_up_to(w_scale + 4 * column, left)
        if bias != 0:
            shift = load_up_to(bias + 4 * column, left)
        if act == GLU:
            if w_scale != 0:
                gate_factor = load_up_to(w_scale + 4 * (width + column), left)
            if bias != 0:
                gate_shift = load_up_to(bias + 4 * (width + column), left)
        if scale != 0:
            gain = load_up_to(scale + 4 * column, left)
        for i in range(rows):
            sums = buffer + i * buffer_stride + 64 * j
            value = fma(load(sums), factor, shift)
            if act == GELU:
                value = gelu(value)
            elif act == GLU:
                value = mul(value, sigmoid(fma(load(sums + 64), gate_factor, gate_shift)))
            elif act == TANH:
                value = tanh(value)
            if scale != 0:
                value = mul(value, gain)
            if residual != 0:
                value = add(value, load_up_to(residual + (t + i) * row + 4 * column, left))
            store_up_to(y + (t + i) * row + 4 * column, value, left)


def make_group(rows: int, scheme: str):
    """A function that computes so many rows of y from row t on, `group` vectors from v on."""
    many, many_one = make_tile(rows, VECTORS, scheme), make_tile(rows, 1, scheme)

    def compute(args, t, v, group, direct, buffer):
        j = 0
        while j < group:
            if group - j >= VECTORS:
                many(args, t, v + j, direct, buffer + 64 * j, 64 * GROUP)
                j += VECTORS
            else:
                many_one(args, t, v + j, direct, buffer + 64 * j, 64 * GROUP)
                j += 1
        if not direct:
            finish(args, t, v, rows, group, buffer, 64 * GROUP)

    return inline(compute)


def make_sweep(rows: int, scheme: str):
    """A function that computes a rectangle of y in tiles of that many rows: rows first..last-1, of which there are
    at least so many, vectors start..end-1."""
    few = FEW if rows > FEW else 0  # rows that are left over and taken by the smaller tile
    compute, compute_few = make_group(rows, scheme), make_group(few or rows, scheme)

    def sweep(args, first, last, start, end, buffer):
        strip = (args.strip + rows - 1) // rows * rows
        strip_last = first
        while strip_last < last:
            strip_first = strip_last
            strip_last = min(strip_first + strip, last)
            for v in range(start, end, GROUP):
                group = min(GROUP, end - v)
                direct = is_plain(args, v, group)
                for row in range(strip_first, strip_last, rows):  # the last tile may repeat rows: the same bits again
                    if last - row <= few:
                        compute_few(args, last - few, v, group, direct, buffer)
                    else:
                        compute(args, min(row, last - rows), v, group, direct, buffer)

    return inline(sweep)


def make_column(scheme: str):
    """A function for products with one output, where lanes are rows: first..last-1, if it is fit for them -> is it?"""
    none, start, turn, step, scaled, write = columns.words(scheme)
    per_step = tile.BYTES.get(scheme, 1)  # words of x for each line of the panel
    line = tile.WIDTHS[scheme] // per_step  # bytes of weights for a word of x
    stack, sums_stack = tile.scratch(columns.ROOM), tile.scratch(4 * columns.ROWS)

    @inline
    def tap(args, acc, x, w, turned):
        """One tap of 64 rows."""
        stride, room = args.x_stride, 4 * columns.ROWS
        for word in range(0, args.steps * per_step, columns.WORDS):
            for i in range(columns.VECTORS):
                turn(x + 16 * i * stride + 4 * word, stride, turned + 64 * i)
            for c in range(columns.WORDS):
                acc = step(acc, turned + room * c, w + line * (word + c))
        return acc

    def integers(args, t, turned):
        sums, tap_bytes = none(), line * args.steps * per_step
        x, row_scale, row_start = args.x + t * args.x_stride, args.row_scale + 4 * t, args.row_start + 4 * t
        for k in range(args.taps):
            far = k * args.scale_tap
            acc = tap(args, start(row_start + far), x + k * args.tap_stride, args.w + k * tap_bytes, turned)
            sums = scaled(sums, acc, row_scale + far)
        return sums

    def reals(args, t, turned):
        sums, x, tap_bytes = none(), args.x + t * args.x_stride, line * args.steps * per_step
        for k in range(args.taps):
            sums = tap(args, sums, x + k * args.tap_stride, args.w + k * tap_bytes, turned)
        return sums

    rows_of = inline(integers if scheme == "int8" else reals)

    def column(args, first, last):
        whole = args.steps * per_step % columns.WORDS == 0 and last - first >= columns.ROWS
        if not whole or args.width != 1 or args.act != 0 or args.scale != 0 or args.scale_stride != 4:
            return False
        turned, buffer = stack(), sums_stack()
        factor, shift = real(ONE), real(ZERO)
        if args.w_scale != 0:
            factor = real(load_real(args.w_scale))
        if args.bias != 0:
            shift = real(load_real(args.bias))
        for row in range(first, last, columns.ROWS):
            t = min(row, last - columns.ROWS)
            write(rows_of(args, t, turned), buffer)
            for i in range(0, columns.ROWS, 16):
                value = fma(load(buffer + 4 * i), factor, shift)
                if args.residual != 0:
                    value = add(value, load(args.residual + 4 * (t + i)))
                store(args.y + 4 * (t + i), value)
        return True

    return inline(column)


def make_gemm(scheme: str):
    """The kernel for one format of weights."""
    large = make_sweep(ROWS, scheme)
    small = large if FEW == ROWS else make_sweep(FEW, scheme)
    single, single_one = make_tile(1, ONE_ROW, scheme), make_tile(1, 1, scheme)
    column = None if scheme == "int4" else make_column(scheme)
    stack = tile.scratch(64 * max(ROWS * GROUP, ONE_ROW))

    def gemm(args, piece):
        row_blocks, row_block = args.row_blocks, args.row_block
        first = piece % row_blocks * row_block
        last = min(first + row_block, args.rows)
        panel_block = args.panel_block
        start = piece // row_blocks * panel_block
        end = min(start + panel_block, args.panels)
        buffer = stack()
        if column is not None and column(args, first, last):
            return
        if last - first >= ROWS:
            large(args, first, last, start, end, buffer)
        elif last - first >= FEW:
            small(args, first, last, start, end, buffer)
        else:
            for v in range(start, end, ONE_ROW):
                group = min(ONE_ROW, end - v)
                direct = is_plain(args, v, group)
                for t in range(first, last):
                    if group == ONE_ROW:
                        single(args, t, v, direct, buffer, 64 * ONE_ROW)
                    else:
                        for j in range(group):
                            single_one(args, t, v + j, direct, buffer + 64 * j, 64 * ONE_ROW)
                    if not direct:
                        finish(args, t, v, 1, group, buffer, 64 * ONE_ROW)

    gemm.__name__ = f"gemm_{scheme}"
    return gemm
