"""Operations on rows by themselves: norms, loudness matching, rotary positions, softmax, sigmoid.

Sums along a row are 16 partial sums, one per lane, added up in a fixed order.
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import exp, gelu, inline, load_up_to, sigmoid, store_up_to
from sopro_np.kernels.simd.reduce import largest, total
from sopro_np.kernels.simd.vector import add, div, fma, larger, load_real, mul, real, real_of_bits, root, sub
from sopro_np.ops.abi import MAPS

GELU = MAPS.index("gelu")
F = np.float32


@inline
def row_range(args, piece):
    """Rows of this piece, for every block with the fields row_block and rows."""
    first = piece * args.row_block
    return first, min(first + args.row_block, args.rows)


@inline
def sum_of_squares(x, n):
    sums = real(F(0))
    for c in range(0, n, 16):
        v = load_up_to(x + 4 * c, n - c)
        sums = fma(v, v, sums)
    return total(sums)


@inline
def norm_fields(args):
    """Width, weight, shift, eps, 1 / width."""
    n = args.width
    eps = real_of_bits(args.eps)
    return n, args.weight, args.shift, eps, F(1) / F(n)


def rms_norm(args, piece):
    """x / sqrt(mean(x^2) + eps) * weight + shift."""
    first, last = row_range(args, piece)
    n, weight, shift, eps, share = norm_fields(args)
    for t in range(first, last):
        x, y = args.x + 4 * n * t, args.y + 4 * n * t
        scale = real(F(1) / root(sum_of_squares(x, n) * share + eps))
        for c in range(0, n, 16):
            v = mul(load_up_to(x + 4 * c, n - c), scale)
            if weight != 0:
                v = mul(v, load_up_to(weight + 4 * c, n - c))
            if shift != 0:
                v = add(v, load_up_to(shift + 4 * c, n - c))
            store_up_to(y + 4 * c, v, n - c)


def layer_norm(args, piece):
    """(x - mean) / sqrt(var + eps) * weight + shift."""
    first, last = row_range(args, piece)
    n, weight, shift, eps, share = norm_fields(args)
    for t in range(first, last):
        x, y = args.x + 4 * n * t, args.y + 4 * n * t
        sums = real(F(0))
        for c in range(0, n, 16):
            sums = add(sums, load_up_to(x + 4 * c, n - c))
        mean = real(total(sums) * share)
        for c in range(0, n, 16):
            store_up_to(y + 4 * c, sub(load_up_to(x + 4 * c, n - c), mean), n - c)
        scale = real(F(1) / root(sum_of_squares(y, n) * share + eps))
        for c in range(0, n, 16):
            v = mul(load_up_to(y + 4 * c, n - c), scale)
            v = fma(v, load_up_to(weight + 4 * c, n - c), load_up_to(shift + 4 * c, n - c))
            store_up_to(y + 4 * c, v, n - c)


def match_rms(args, piece):
    """a times how much louder x is, at most `clamp` times (no limit where clamp is negative)."""
    first, last = row_range(args, piece)
    n = args.width
    clamp, share, tiny = real_of_bits(args.clamp), F(1) / F(n), F(1e-6)
    for t in range(first, last):
        x, a = args.x + 4 * n * t, args.a + 4 * n * t
        y = args.y + 4 * n * t
        ratio = root(sum_of_squares(x, n) * share + tiny) / root(sum_of_squares(a, n) * share + tiny)
        if clamp >= F(0):
            ratio = min(ratio, clamp)
        for c in range(0, n, 16):
            store_up_to(y + 4 * c, mul(load_up_to(a + 4 * c, n - c), real(ratio)), n - c)


def rope(args, piece):
    """[x1 | x2] -> [x1 cos - x2 sin | x2 cos + x1 sin] per head."""
    first, last = row_range(args, piece)
    heads, half = args.heads, args.half
    for t in range(first, last):
        cos, sin = args.cos + 4 * half * t, args.sin + 4 * half * t
        for h in range(heads):
            at = 8 * half * (t * heads + h)
            x, y = args.x + at, args.y + at
            for c in range(0, half, 16):
                a, b = load_up_to(x + 4 * c, half - c), load_up_to(x + 4 * (half + c), half - c)
                u, v = load_up_to(cos + 4 * c, half - c), load_up_to(sin + 4 * c, half - c)
                store_up_to(y + 4 * c, sub(mul(a, u), mul(b, v)), half - c)
                store_up_to(y + 4 * (half + c), add(mul(b, u), mul(a, v)), half - c)


@inline
def softmax_row(x, y, n):
    """e^(x - max) / sum, n numbers; the lanes behind them count as -infinity."""
    top = real(F(-np.inf))
    for c in range(0, n, 16):
        v = load_up_to(x + 4 * c, n - c)
        if n - c >= 16:
            top = larger(v, top)
        else:
            for i in range(c, n):
                top = larger(real(load_real(x + 4 * i)), top)
    top = real(largest(top))
    sums = real(F(0))
    for c in range(0, n, 16):
        store_up_to(y + 4 * c, exp(sub(load_up_to(x + 4 * c, n - c), top)), n - c)
        sums = add(sums, load_up_to(y + 4 * c, n - c))
    scale = real(total(sums))
    for c in range(0, n, 16):
        store_up_to(y + 4 * c, div(load_up_to(y + 4 * c, n - c), scale), n - c)


def softmax(args, piece):
    """Along rows."""
    first, last = row_range(args, piece)
    n = args.width
    for t in range(first, last):
        softmax_row(args.x + 4 * n * t, args.y + 4 * n * t, n)


def map_rows(args, piece):
    """sigmoid or GELU, element-wise."""
    first, last = row_range(args, piece)
    n, function = args.width, args.function
    for t in range(first, last):
        x, y = args.x + 4 * n * t, args.y + 4 * n * t
        for c in range(0, n, 16):
            v = load_up_to(x + 4 * c, n - c)
            v = gelu(v) if function == GELU else sigmoid(v)
            store_up_to(y + 4 * c, v, n - c)
