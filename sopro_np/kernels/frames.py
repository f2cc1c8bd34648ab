"""Operations where frames meet or are looked up: rows put together, depthwise convolution, memory, embeddings."""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import elu, inline, load_up_to, store_up_to
from sopro_np.kernels.rows import row_range
from sopro_np.kernels.simd.narrow import load_brain_up_to, load_bytes_up_to, load_half_up_to, load_nibbles_up_to
from sopro_np.kernels.simd.vector import add, fma, load_i64, load_real, mul, real, store_i64, to_real
from sopro_np.ops.abi import PRE, TABLES, offsets

C, D, K, E = (offsets(name) for name in ("collect", "depthwise", "remember", "embed"))
assert C._fields[:8] == offsets("quantise")._fields[:8], "row_of serves both"
ELU = PRE.index("elu")
FP32, BF16, INT8, INT4 = (TABLES.index(name) for name in ("fp32", "bf16", "int8", "int4"))
F = np.float32


def depthwise(args, chunk):
    """y[t] = residual[t] + bias + sum_k w[k] rows[t + k*dilation]; rows = past, x, zeros."""
    first, last = row_range(args, chunk)
    n, taps, dilation = load_i64(args + D.width), load_i64(args + D.taps), load_i64(args + D.dilation)
    past_rows, x_rows = load_i64(args + D.past_rows), load_i64(args + D.x_rows)
    w, bias, residual = load_i64(args + D.w), load_i64(args + D.bias), load_i64(args + D.residual)
    for t in range(first, last):
        for c in range(0, n, 16):
            at, left = 4 * c, n - c
            sums = real(F(0))
            if bias != 0:
                sums = load_up_to(bias + at, left)
            for k in range(taps):
                row = t + k * dilation
                if row < past_rows:
                    v = load_up_to(load_i64(args + D.past) + 4 * n * row + at, left)
                elif row - past_rows < x_rows:
                    v = load_up_to(load_i64(args + D.x) + 4 * n * (row - past_rows) + at, left)
                else:
                    break
                sums = fma(v, load_up_to(w + 4 * n * k + at, left), sums)
            if residual != 0:
                sums = add(sums, load_up_to(residual + 4 * n * t + at, left))
            store_up_to(load_i64(args + D.y) + 4 * n * t + at, sums, left)


@inline
def row_of(args, t):
    """Address of row t of a kernel whose fields begin like those of `collect`: rows of past, then rows of x."""
    past_rows, row_bytes = load_i64(args + C.past_rows), 4 * load_i64(args + C.width)
    if t < past_rows:
        return load_i64(args + C.past) + row_bytes * t
    return load_i64(args + C.x) + row_bytes * (t - past_rows)


def collect(args, chunk):
    """Rows of `past`, then of `x`, one below the other, through ELU or as they are."""
    first, last = row_range(args, chunk)
    n, pre = load_i64(args + C.width), load_i64(args + C.pre)
    for t in range(first, last):
        x, y = row_of(args, t), load_i64(args + C.y) + 4 * n * t
        for c in range(0, n, 16):
            v = load_up_to(x + 4 * c, n - c)
            if pre == ELU:
                v = elu(v)
            store_up_to(y + 4 * c, v, n - c)


def remember(args, chunk):
    """In place: past = the last rows of [past; x]. All numbers in order, from low addresses to high ones."""
    n, past_rows, x_rows = load_i64(args + K.width), load_i64(args + K.past_rows), load_i64(args + K.x_rows)
    past, x = load_i64(args + K.past), load_i64(args + K.x)
    stay = max(past_rows - x_rows, 0)  # rows of the old past that are still needed
    count = n * stay
    source = past + 4 * n * (past_rows - stay)
    for c in range(0, count, 16):
        store_up_to(past + 4 * c, load_up_to(source + 4 * c, count - c), count - c)
    target, count = past + 4 * n * stay, n * (past_rows - stay)
    source = x + 4 * n * (x_rows - (past_rows - stay))
    for c in range(0, count, 16):
        store_up_to(target + 4 * c, load_up_to(source + 4 * c, count - c), count - c)


def embed(args, chunk):
    """y[t] = residual[t] + sum_n weights[n] table[ids[t, n]], whatever the format of the table."""
    first, last = row_range(args, chunk)
    width, terms, scheme = load_i64(args + E.width), load_i64(args + E.terms), load_i64(args + E.scheme)
    table_rows, row_bytes = load_i64(args + E.table_rows), load_i64(args + E.row_bytes)
    groups, weights = load_i64(args + E.groups), load_i64(args + E.weights)
    residual = load_i64(args + E.residual)
    for t in range(first, last):
        for c in range(0, width, 16):
            left = width - c
            sums = real(F(0))
            for i in range(terms):
                row = load_i64(load_i64(args + E.ids) + 8 * (t * terms + i))
                if row < 0 or row >= table_rows:
                    store_i64(load_i64(args + E.status), 2)
                    return
                at = load_i64(args + E.table) + row * row_bytes
                if scheme == FP32:
                    v = load_up_to(at + 4 * c, left)
                elif scheme == BF16:
                    v = load_brain_up_to(at + 2 * c, left)
                elif scheme == INT8:
                    scale = load_real(load_i64(args + E.scale) + 4 * row)
                    v = mul(to_real(load_bytes_up_to(at + c, left)), real(scale))
                elif scheme == INT4:
                    scale = load_real(load_i64(args + E.scale) + 4 * (row * groups + c // 32))
                    v = mul(to_real(load_nibbles_up_to(at + c // 2, left)), real(scale))
                else:
                    v = load_half_up_to(at + 2 * c, left)
                if weights != 0:
                    v = mul(v, real(load_real(weights + 4 * i)))
                sums = add(sums, v)
            if residual != 0:
                sums = add(sums, load_up_to(residual + 4 * width * t + 4 * c, left))
            store_up_to(load_i64(args + E.y) + 4 * width * t + 4 * c, sums, left)
