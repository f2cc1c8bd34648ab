"""Depthwise convolution, and the rows that convolutions look back at: put together, and remembered."""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import elu, inline, load_up_to, store_up_to
from sopro_np.kernels.rows import row_range
from sopro_np.kernels.simd.vector import add, fma, real
from sopro_np.ops.abi import PRE

ELU = PRE.index("elu")
F = np.float32


def depthwise(args, piece):
    """y[t, phase] = residual[t, phase] + bias + sum_k w[k, phase] rows[t + k*dilation]; rows = past, x, zeros."""
    first, last = row_range(args, piece)
    n, taps, dilation, phases = args.width, args.taps, args.dilation, args.phases
    past_rows, x_rows = args.past_rows, args.x_rows
    w, bias, residual = args.w, args.bias, args.residual
    for i in range(first, last):
        t, phase = i // phases, i % phases
        for c in range(0, n, 16):
            at, left = 4 * c, n - c
            sums = real(F(0))
            if bias != 0:
                sums = load_up_to(bias + at, left)
            for k in range(taps):
                row = t + k * dilation
                if row < past_rows:
                    v = load_up_to(args.past + 4 * n * row + at, left)
                elif row - past_rows < x_rows:
                    v = load_up_to(args.x + 4 * n * (row - past_rows) + at, left)
                else:
                    break
                sums = fma(v, load_up_to(w + 4 * n * (k * phases + phase) + at, left), sums)
            if residual != 0:
                sums = add(sums, load_up_to(residual + 4 * n * i + at, left))
            store_up_to(args.y + 4 * n * i + at, sums, left)


@inline
def row_of(args, t):
    """Address of row t of a kernel whose fields begin like those of `concat_rows`: rows of past, then rows of x."""
    past_rows, row_bytes = args.past_rows, 4 * args.width
    if t < past_rows:
        return args.past + row_bytes * t
    return args.x + row_bytes * (t - past_rows)


@inline
def copy_numbers(x, y, count, pre):
    for c in range(0, count, 16):
        v = load_up_to(x + 4 * c, count - c)
        if pre == ELU:
            v = elu(v)
        store_up_to(y + 4 * c, v, count - c)


def concat_rows(args, piece):
    """Rows of `past`, then of `x`, one below the other, through ELU or as they are."""
    first, last = row_range(args, piece)
    n, past_rows = args.width, args.past_rows
    seam = min(max(first, past_rows), last)
    y = args.y + 4 * n * first
    copy_numbers(args.past + 4 * n * first, y, n * (seam - first), args.pre)
    copy_numbers(args.x + 4 * n * (seam - past_rows), y + 4 * n * (seam - first), n * (last - seam), args.pre)


def push_history(args, piece):
    """In place: past = the last rows of [past; x]. All numbers in order, from low addresses to high ones."""
    n, past_rows, x_rows = args.width, args.past_rows, args.x_rows
    past, x = args.past, args.x
    stay = max(past_rows - x_rows, 0)  # rows of the old past that are still needed
    count = n * stay
    source = past + 4 * n * (past_rows - stay)
    for c in range(0, count, 16):
        store_up_to(past + 4 * c, load_up_to(source + 4 * c, count - c), count - c)
    target, count = past + 4 * n * stay, n * (past_rows - stay)
    source = x + 4 * n * (x_rows - (past_rows - stay))
    for c in range(0, count, 16):
        store_up_to(target + 4 * c, load_up_to(source + 4 * c, count - c), count - c)
