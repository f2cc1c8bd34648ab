"""Activations to int8, one scale per row.

amax = max(|x|, 1e-12),  q = rint(x * (127 / amax)),  scale = amax / 127        (ops/quant.py)
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.conv import row_of
from sopro_np.kernels.functions import elu, inline, load_up_to, nearest_integer, store_up_to
from sopro_np.kernels.simd import tile
from sopro_np.kernels.simd.reduce import all_zero, extremes, total_i
from sopro_np.kernels.simd.vector import (
    add_i,
    div,
    fma,
    integer,
    larger,
    load,
    load_first,
    load_real,
    mul,
    real,
    smaller,
    store,
    store_bytes,
    store_i32,
    store_i64,
    store_real,
    store_words,
    sub,
)
from sopro_np.ops.abi import PRE

F = np.float32
OFFSET, SIZE = tile.TARGET.weight_offset, tile.BYTES["int8"]  # what int8 weights have added; bytes of an activation
INT4_OFFSET = 8
ELU = PRE.index("elu")


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


@inline
def quantise_row(x, n, q, count, size, factor, start, group, offset, pre):
    """One row -> `count` numbers of `size` bytes, zeros behind them, and for every group what its sums start with."""
    total, ready = integer(0), 0
    for c in range(0, count, 16):
        v = integer(0)
        if c < n:
            u = load_up_to(x + 4 * c, n - c)
            if pre == ELU:
                u = elu(u)
            v = nearest_integer(mul(u, factor))
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


stack = tile.scratch(4 * 64)


def quantise(args, piece):
    """16 rows at a time: their extremes; then all scales at once; then the bytes."""
    row_block = args.row_block
    first = piece * row_block
    last = min(first + row_block, args.rows)
    n, pre, stride = args.width, args.pre, args.q_stride
    groups = args.groups  # 0: one sum over all inputs (int8 weights), else groups of 32 (int4)
    tops = stack()
    bottoms, factors = tops + 64, tops + 128
    store(tops, real(F(0)))
    store(bottoms, real(F(0)))
    odd = real(F(0))
    for block in range(first, last, 16):
        rows = min(16, last - block)
        for i in range(rows):
            top, bottom, odd = extremes_of_row(row_of(args, block + i), n, odd)
            store_real(tops + 4 * i, top)
            store_real(bottoms + 4 * i, bottom)
        bottom = load(bottoms)
        if pre == ELU:  # it never changes the order of two numbers, so the extremes of a row stay its extremes
            bottom = sub(real(F(0)), elu(sub(real(F(0)), bottom)))
        amax = larger(larger(load(tops), bottom), real(F(1e-12)))
        store(factors, div(real(F(127)), amax))
        store_up_to(args.scale + 4 * block, div(amax, real(F(127))), rows)
        for i in range(rows):
            t, factor = block + i, real(load_real(factors + 4 * i))
            x, q = row_of(args, t), args.q + t * stride
            if groups > 0:
                quantise_row(x, n, q, stride, 1, factor, args.start + 4 * t * groups, 32, INT4_OFFSET, pre)
            else:
                count = stride // SIZE
                quantise_row(x, n, q, count, SIZE, factor, args.start + 4 * t, count, OFFSET, pre)
    if not all_zero(odd):
        store_i64(args.status, 1)
