"""Activations to int8, one scale per row; weights to panels.

amax = max(|x|, 1e-12),  q = rint(x * (127 / amax)),  scale = amax / 127        (ops/quant.py)
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.frames import row_of
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
    load_i8,
    load_i16,
    load_i32,
    load_i64,
    load_real,
    mul,
    real,
    smaller,
    store,
    store_bytes,
    store_i8,
    store_i16,
    store_i32,
    store_i64,
    store_real,
    sub,
)
from sopro_np.ops.abi import PRE, offsets

Q = offsets("quantise")
P = offsets("pack")
F = np.float32
OFFSET, INT4_OFFSET = tile.TARGET.weight_offset, 8
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
def quantise_row(x, n, q, q_stride, factor, start, group, offset, pre):
    """One row -> bytes, zeros behind them, and for every group of inputs what its sums start with."""
    total, ready = integer(0), 0
    for c in range(0, q_stride, 16):
        v = integer(0)
        if c < n:
            u = load_up_to(x + 4 * c, n - c)
            if pre == ELU:
                u = elu(u)
            v = nearest_integer(mul(u, factor))
        store_bytes(q + c, v)
        total = add_i(total, v)
        ready += 16
        if ready >= group:
            store_i32(start, -offset * total_i(total))
            start, total, ready = start + 4, integer(0), 0
    if ready > 0:
        store_i32(start, -offset * total_i(total))


stack = tile.scratch(4 * 64)


def quantise(args, chunk):
    """16 rows at a time: their extremes; then all scales at once; then the bytes."""
    row_block = load_i64(args + Q.row_block)
    first = chunk * row_block
    last = min(first + row_block, load_i64(args + Q.rows))
    n, pre, stride = load_i64(args + Q.width), load_i64(args + Q.pre), load_i64(args + Q.q_stride)
    groups = load_i64(args + Q.groups)  # 0: one sum over all inputs (int8 weights), else groups of 32 (int4)
    group, offset = (32, INT4_OFFSET) if groups > 0 else (stride, OFFSET)
    groups = max(groups, 1)
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
        store_up_to(load_i64(args + Q.scale) + 4 * block, div(amax, real(F(127))), rows)
        for i in range(rows):
            t = block + i
            quantise_row(
                row_of(args, t), n, load_i64(args + Q.q) + t * stride, stride, real(load_real(factors + 4 * i)),
                load_i64(args + Q.start) + 4 * t * groups, group, offset, pre,
            )  # fmt: skip
    if not all_zero(odd):
        store_i64(load_i64(args + Q.status), 1)


@inline
def panel(args, chunk):
    """(first row of w, rows there are, where the panel lies) for panel `chunk`."""
    at = load_i64(args + P.panels) + chunk * load_i64(args + P.panel_bytes)
    return load_i64(args + P.first) + 16 * chunk, load_i64(args + P.rows) - 16 * chunk, at


def make_pack(load_weight, store_weight, size: int):
    """A kernel for weights of so many bytes. Panel `chunk`: 16 rows of w (N, columns) -> (columns, 16)."""

    def pack(args, chunk):
        first, rows, out = panel(args, chunk)
        columns = load_i64(args + P.taps) * load_i64(args + P.inputs)
        w = load_i64(args + P.w) + size * columns * first
        for j in range(16):
            for c in range(columns):
                value = 0
                if j < rows:
                    value = load_weight(w + size * (j * columns + c))
                store_weight(out + size * (16 * c + j), value)

    return pack


pack_int16, pack_int32 = make_pack(load_i16, store_i16, 2), make_pack(load_i32, store_i32, 4)


def pack_int8(args, chunk):
    """Panel `chunk`: 16 rows of w (N, taps*inputs) -> (taps, inputs/4, 16, 4) bytes, zeros where there is no weight."""
    first, rows, out = panel(args, chunk)
    taps, inputs = load_i64(args + P.taps), load_i64(args + P.inputs)
    steps = (inputs + 3) // 4
    w = load_i64(args + P.w) + taps * inputs * first
    for j in range(16):
        for k in range(taps):
            for c in range(4 * steps):
                value = 0
                if j < rows and c < inputs:
                    value = load_i8(w + (j * taps + k) * inputs + c)
                store_i8(out + 64 * (k * steps + c // 4) + 4 * j + c % 4, value + OFFSET)


def pack_int4(args, chunk):
    """Panel `chunk`: 16 rows of w (N, taps*ceil(inputs/8)) words -> per tap and group 16 scales, 4 x 16 words.

    Byte b of a packed word: nibble b of the stored word in the lower half, nibble b + 4 in the upper half.
    """
    first, rows, out = panel(args, chunk)
    taps, inputs = load_i64(args + P.taps), load_i64(args + P.inputs)
    words, groups = (inputs + 7) // 8, (inputs + 31) // 32
    for k in range(taps):
        for g in range(groups):
            for j in range(16):
                scale = F(0)
                if j < rows:
                    scale = load_real(load_i64(args + P.scale) + 4 * (((first + j) * taps + k) * groups + g))
                store_real(out + 4 * j, scale)
                for i in range(4):
                    for b in range(4):
                        value = 0
                        if j < rows and 4 * g + i < words:
                            w = load_i64(args + P.w) + 4 * (((first + j) * taps + k) * words + 4 * g + i)
                            word = load_i32(w)
                            value = (word >> (4 * b)) & 15 | ((word >> (4 * b + 16)) & 15) << 4
                        store_i8(out + 64 + 64 * i + 4 * j + b, value)
            out += 320
