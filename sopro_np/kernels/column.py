"""Matrix products with one output, where lanes are rows (simd/columns.py): the bits of gemm.py, 16 at a time."""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import inline
from sopro_np.kernels.simd import columns, tile
from sopro_np.kernels.simd.reduce import all_zero
from sopro_np.kernels.simd.vector import add, fma, load, load_real, real, store

ONE, ZERO = np.float32(1), np.float32(0)


def make_column(scheme: str):
    """A function for products with one output, where lanes are rows: first..last-1, if it is fit for them -> is it?"""
    none, start, start_short, turn, step, scaled, write = columns.words(scheme)
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

    @inline
    def planes(args, scales):
        """2 if one of the 64 rows, or of those that further taps look at, has low bytes, else 1."""
        if args.low == 0:
            return 1
        found = real(ZERO)
        for k in range(args.taps):
            for i in range(columns.VECTORS):
                found = add(found, load(scales + args.low_scale + k * args.scale_tap + 64 * i))  # none is negative
        return 1 if all_zero(found) else 2

    def integers(args, t, turned):
        sums = none()
        x, row_scale, row_start = args.x + t * args.x_stride, args.row_scale + 4 * t, args.row_start + 4 * t
        for plane in range(planes(args, row_scale)):
            w = args.w
            for k in range(args.taps):
                far = k * args.scale_tap
                acc = start(row_start + far)
                if args.row_zero != 0:
                    if plane == 0:
                        acc = start_short(acc, args.row_zero + 4 * t + far, w)
                    w += 64
                sums = scaled(sums, tap(args, acc, x + k * args.tap_stride, w, turned), row_scale + far)
                w += line * args.steps * per_step
            x, row_scale, row_start = x + args.low, row_scale + args.low_scale, row_start + args.low_start
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
