"""Activations to int8, one scale per row.

The formulas stand in ops/quant.py. A row that integers of 8 bits say badly (its largest number is far above the others,
which `limit` decides by the sum of its squares) becomes two rows, of the high and the low bytes of 16-bit numbers.
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.conv import row_of
from sopro_np.kernels.functions import elu, inline, load_up_to, nearest_integer, store_up_to
from sopro_np.kernels.simd import tile
from sopro_np.kernels.simd.reduce import all_zero, extremes, total_i
from sopro_np.kernels.simd.vector import (
    add,
    add_i,
    div,
    fma,
    integer,
    larger,
    load,
    load_first,
    load_real,
    mul,
    mul_i,
    real,
    shift_left,
    shift_right,
    smaller,
    store,
    store_bytes,
    store_i32,
    store_i64,
    store_real,
    store_words,
    sub,
    sub_i,
    to_real,
)
from sopro_np.ops.abi import PRE

F = np.float32
OFFSET, SIZE = tile.TARGET.weight_offset, tile.BYTES["int8"]  # what int8 weights have added; bytes of an activation
INT4_OFFSET = 8
ELU = PRE.index("elu")
LARGEST = 127 * 257  # of 16 bits whose high byte, rounded, is at most 127


@inline
def whole(x):
    """A float that is an integer -> that integer."""
    return np.int64(x)


@inline
def extremes_of_row(x, n, odd):
    """(largest number or 0, minus the smallest or 0, `odd` unless a number is NaN or infinite)."""
    high, low = real(F(0)), real(F(0))
    whole = n - n % 16
    for c in range(0, whole, 16):
        v = load(x + 4 * c)
        high, low = larger(v, high), smaller(v, low)
        odd = fma(v, real(F(0)), odd)  # stays zero, unless a number is NaN or infinite
    if whole < n:
        v = load_first(x + 4 * whole, n - whole)
        high, low = larger(v, high), smaller(v, low)
        odd = fma(v, real(F(0)), odd)
    top, bottom = extremes(high, low)
    return top, bottom, odd


def make_row(size: int, asymmetric: bool, measured: bool):
    """A function: one row -> `count` numbers of `size` bytes, zeros behind them, and for every group of inputs what its
    sums start with. `zero`, if asymmetric: what 0 becomes. -> the sum of squares, if measured, else 0."""

    @inline
    def quantise_row(x, n, q, count, factor, zero, start, group, offset, pre):
        squares, total, ready = integer(0), integer(0), 0
        shift = integer(whole(zero) - 128)  # to bytes
        for c in range(0, count, 16):
            v = integer(0)
            if c < n:
                u = load_up_to(x + 4 * c, n - c)
                if pre == ELU:
                    u = elu(u)
                u = mul(u, factor)
                if asymmetric:
                    u = smaller(larger(u, real(-zero)), real(F(255) - zero))
                v = nearest_integer(u)
            if measured:
                squares = add_i(squares, mul_i(v, v))
            if asymmetric and size == 1:
                v = add_i(v, shift)
            if size == 1:
                store_bytes(q + c, v)
            else:
                store_words(q + 2 * c, v)
            total = add_i(total, v)
            ready += 16
            if ready >= group:
                store_i32(start, -offset * total_i(total))
                start, total, ready = start + 4, integer(0), 0
        if ready > 0:
            store_i32(start, -offset * total_i(total))
        return total_i(squares) if measured else 0

    return quantise_row


@inline
def split_row(x, n, q, low, count, size, factor, start, low_start, group, offset, pre):
    """One row as numbers of 16 bits, 256 high + low: the two bytes, each as `quantise_row` leaves its numbers."""
    total, low_total, ready = integer(0), integer(0), 0
    for c in range(0, count, 16):
        v = integer(0)
        if c < n:
            u = load_up_to(x + 4 * c, n - c)
            if pre == ELU:
                u = elu(u)
            v = nearest_integer(mul(u, factor))
        high = shift_right(add_i(v, integer(128)), 8)
        rest = sub_i(v, shift_left(high, 8))
        if size == 1:
            store_bytes(q + c, high)
            store_bytes(low + c, rest)
        else:
            store_words(q + 2 * c, high)
            store_words(low + 2 * c, rest)
        total, low_total = add_i(total, high), add_i(low_total, rest)
        ready += 16
        if ready >= group:
            store_i32(start, -offset * total_i(total))
            store_i32(low_start, -offset * total_i(low_total))
            start, low_start, total, low_total, ready = start + 4, low_start + 4, integer(0), integer(0), 0
    if ready > 0:
        store_i32(start, -offset * total_i(total))
        store_i32(low_start, -offset * total_i(low_total))


plain, plain_measured = make_row(SIZE, False, False), make_row(SIZE, False, True)
shifted, shifted_measured = make_row(SIZE, True, False), make_row(SIZE, True, True)
grouped, grouped_measured = make_row(1, False, False), make_row(1, False, True)
stack = tile.scratch(6 * 64)


def quantise(args, piece):
    """16 rows at a time: their extremes; then all scales at once; then the bytes."""
    row_block = args.row_block
    first = piece * row_block
    last = min(first + row_block, args.rows)
    n, pre, stride = args.width, args.pre, args.q_stride
    groups = args.groups  # 0: one sum over all inputs (int8 weights), else for every group (int4)
    limit, asymmetric = args.limit, args.asymmetric
    size = 1 if groups > 0 else SIZE
    offset = INT4_OFFSET if groups > 0 else OFFSET
    count = stride // size
    group = args.group if groups > 0 else count
    tops = stack()
    bottoms, factors, zeros, split, low_scales = tops + 64, tops + 128, tops + 192, tops + 256, tops + 320
    store(tops, real(F(0)))
    store(bottoms, real(F(0)))
    odd = real(F(0))
    for block in range(first, last, 16):
        rows = min(16, last - block)
        for i in range(rows):
            top, bottom, odd = extremes_of_row(row_of(args, block + i), n, odd)
            store_real(tops + 4 * i, top)
            store_real(bottoms + 4 * i, bottom)
        top, bottom = load(tops), load(bottoms)
        if pre == ELU:  # it never changes the order of two numbers, so the extremes of a row stay its extremes
            bottom = sub(real(F(0)), elu(sub(real(F(0)), bottom)))
        amax = larger(larger(top, bottom), real(F(1e-12)))
        if asymmetric != 0:
            span = larger(add(top, bottom), real(F(1e-12)))
            factor = div(real(F(255)), span)
            store(factors, factor)
            store(zeros, to_real(nearest_integer(mul(bottom, factor))))
            store_up_to(args.scale + 4 * block, div(span, real(F(255))), rows)
        else:
            store(factors, div(real(F(127)), amax))
            store_up_to(args.scale + 4 * block, div(amax, real(F(127))), rows)
        if limit != 0:
            store(split, div(real(F(LARGEST)), amax))
            store(low_scales, div(amax, real(F(LARGEST))))
        for i in range(rows):
            t, factor, zero = block + i, real(load_real(factors + 4 * i)), F(0)
            x, q, start = row_of(args, t), args.q + t * stride, args.start + 4 * t * max(groups, 1)
            if asymmetric != 0:
                zero = load_real(zeros + 4 * i)
                store_i32(args.zero + 4 * t, 128 - whole(zero))
            squares = 0
            if groups > 0 and limit != 0:
                squares = grouped_measured(x, n, q, count, factor, zero, start, group, INT4_OFFSET, pre)
            elif groups > 0:
                grouped(x, n, q, count, factor, zero, start, group, INT4_OFFSET, pre)
            elif limit != 0 and asymmetric != 0:
                squares = shifted_measured(x, n, q, count, factor, zero, start, count, OFFSET, pre)
            elif limit != 0:
                squares = plain_measured(x, n, q, count, factor, zero, start, count, OFFSET, pre)
            elif asymmetric != 0:
                shifted(x, n, q, count, factor, zero, start, count, OFFSET, pre)
            else:
                plain(x, n, q, count, factor, zero, start, count, OFFSET, pre)
            if limit != 0:
                scale = F(0)
                if 0 < squares < limit:
                    scale, factor = load_real(low_scales + 4 * i), real(load_real(split + 4 * i))
                    low, low_start = args.low + t * stride, args.low_start + 4 * t * max(groups, 1)
                    split_row(x, n, q, low, count, size, factor, start, low_start, group, offset, pre)
                    store_real(args.scale + 4 * t, F(256) * scale)
                    if asymmetric != 0:
                        store_i32(args.zero + 4 * t, 0)
                store_real(args.low_scale + 4 * t, scale)
    if not all_zero(odd):
        store_i64(args.status, 1)
