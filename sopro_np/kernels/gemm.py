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

from sopro_np.kernels.column import make_column
from sopro_np.kernels.functions import gelu, inline, load_up_to, sigmoid, store_up_to, tanh
from sopro_np.kernels.simd import tile
from sopro_np.kernels.simd.vector import add, fma, load, load_i32, mul, real
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
    zeros, start, start_short, step, scaled = words.zeros, words.start, words.start_short, words.step, words.scaled
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

    @inline
    def planes(args, scales):
        """2 if one of the rows that this tile looks at has low bytes, else 1: without them, their scale is 0."""
        if args.low == 0:
            return 1
        found = 0
        for k in range(args.taps):
            for i in range(rows):
                found |= load_i32(scales + args.low_scale + k * args.scale_tap + i * args.scale_stride)
        return 1 if found == 0 else 2

    def integers(args, t, v, direct, buffer, buffer_stride):
        taps, steps = args.taps, args.steps
        x_stride, tap_stride = args.x_stride, args.tap_stride
        scale_stride, scale_tap = args.scale_stride, args.scale_tap
        x = args.x + t * x_stride
        row_scale = args.row_scale + t * scale_stride
        row_start = args.row_start + t * scale_stride
        row_zero = args.row_zero
        panel = args.panel_bytes
        sums = zeros()
        for plane in range(planes(args, row_scale)):
            w = args.w + v * panel
            for k in range(taps):
                acc = start(row_start + k * scale_tap, scale_stride)
                if row_zero != 0:
                    if plane == 0:
                        acc = start_short(acc, row_zero + t * scale_stride + k * scale_tap, scale_stride, w, panel)
                    w += 64
                at = x + k * tap_stride
                for _ in range(steps):
                    acc = step(acc, at, x_stride, w, panel)
                    at += four
                    w += width
                sums = scaled(sums, acc, row_scale + k * scale_tap, scale_stride)
            x, row_scale, row_start = x + args.low, row_scale + args.low_scale, row_start + args.low_start
        leave(args, sums, t, v, direct, buffer, buffer_stride)

    def groups_of_inputs(args, t, v, direct, buffer, buffer_stride):
        taps, groups, parts = args.taps, args.steps, args.group
        x_stride, tap_stride = args.x_stride, args.tap_stride
        scale_stride, scale_tap = args.scale_stride, args.scale_tap
        x = args.x + t * x_stride
        row_scale = args.row_scale + t * scale_stride
        row_start = args.row_start + t * scale_stride * groups
        panel = args.panel_bytes
        total = zeros()
        for _ in range(planes(args, row_scale)):
            w = args.w + v * panel
            for k in range(taps):
                at, begin = x + k * tap_stride, row_start + k * scale_tap * groups
                sums = zeros()
                for g in range(groups):
                    acc = start(begin + 4 * g, scale_stride * groups)
                    scales = w
                    w += 64
                    for _ in range(parts):
                        for i in range(4):
                            acc = step(acc, at + 8 * i, x_stride, w + 64 * i, panel)
                        at += 32
                        w += 256
                    sums = grouped(sums, acc, scales, panel)
                total = added(total, sums, row_scale + k * scale_tap, scale_stride)
            x, row_scale, row_start = x + args.low, row_scale + args.low_scale, row_start + args.low_start
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

    return inline({"int8": integers, "int4": groups_of_inputs}.get(scheme, reals))


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
