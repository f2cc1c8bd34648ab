"""Rows of a table, weighted and summed, whatever the format of the table."""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import load_up_to, store_up_to
from sopro_np.kernels.rows import row_range
from sopro_np.kernels.simd.narrow import load_brain_up_to, load_bytes_up_to, load_half_up_to, load_nibbles_up_to
from sopro_np.kernels.simd.vector import add, load_i64, load_real, mul, real, store_i64, to_real
from sopro_np.ops.abi import TABLES

FP32, BF16, INT8, INT4 = (TABLES.index(name) for name in ("fp32", "bf16", "int8", "int4"))
F = np.float32


def embed(args, piece):
    """y[t] = residual[t] + sum_n weights[n] table[ids[t, n]], whatever the format of the table."""
    first, last = row_range(args, piece)
    width, terms, scheme = args.width, args.terms, args.scheme
    table_rows, row_bytes = args.table_rows, args.row_bytes
    groups, group, weights = args.groups, args.group, args.weights
    residual = args.residual
    for t in range(first, last):
        for c in range(0, width, 16):
            left = width - c
            sums = real(F(0))
            for i in range(terms):
                row = load_i64(args.ids + args.ids_stride * t + 8 * i)
                if row < 0 or row >= table_rows:
                    store_i64(args.status, 2)
                    return
                at = args.table + row * row_bytes
                if scheme == FP32:
                    v = load_up_to(at + 4 * c, left)
                elif scheme == BF16:
                    v = load_brain_up_to(at + 2 * c, left)
                elif scheme == INT8:
                    scale = load_real(args.scale + 4 * row)
                    v = mul(to_real(load_bytes_up_to(at + c, left)), real(scale))
                elif scheme == INT4:
                    scale = load_real(args.scale + 4 * (row * groups + c // group))
                    v = mul(to_real(load_nibbles_up_to(at + c // 2, left)), real(scale))
                else:
                    v = load_half_up_to(at + 2 * c, left)
                if weights != 0:
                    v = mul(v, real(load_real(weights + 4 * i)))
                sums = add(sums, v)
            if residual != 0:
                sums = add(sums, load_up_to(residual + 4 * width * t + 4 * c, left))
            store_up_to(args.y + 4 * width * t + 4 * c, sums, left)
