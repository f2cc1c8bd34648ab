"""Operations on rows by themselves: norms, loudness matching, rotary positions, softmax, sigmoid.

Sums along a row are 16 partial sums, one per lane, added up in a fixed order.
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import exp, gelu, inline, load_up_to, sigmoid, store_up_to
from sopro_np.kernels.simd.reduce import largest, total
from sopro_np.kernels.simd.vector import add, div, fma, larger, load_i64, load_real, mul, real, real_of_bits, root, sub
from sopro_np.ops.abi import MAPS, offsets

N, M, R, S = (offsets(name) for name in ("norm", "match", "rope", "rows"))
GELU = MAPS.index("gelu")
F = np.float32


@inline
def row_range(args, chunk):
    """Rows of this piece: the first three fields of these kernels are chunks, row_block, rows."""
    block = load_i64(args + 8)
    first = chunk * block
    return first, min(first + block, load_i64(args + 16))


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
    n = load_i64(args + N.width)
    eps = real_of_bits(load_i64(args + N.eps))
    return n, load_i64(args + N.weight), load_i64(args + N.shift), eps, F(1) / F(n)


def rms_norm(args, chunk):
    """x / sqrt(mean(x^2) + eps) * weight + shift."""
    first, last = row_range(args, chunk)
    n, weight, shift, eps, share = norm_fields(args)
    for t in range(first, last):
        x, y = load_i64(args + N.x) + 4 * n * t, load_i64(args + N.y) + 4 * n * t
        scale = real(F(1) / root(sum_of_squares(x, n) * share + eps))
        for c in range(0, n, 16):
            v = mul(load_up_to(x + 4 * c, n - c), scale)
            if weight != 0:
                v = mul(v, load_up_to(weight + 4 * c, n - c))
            if shift != 0:
                v = add(v, load_up_to(shift + 4 * c, n - c))
            store_up_to(y + 4 * c, v, n - c)


def layer_norm(args, chunk):
    """(x - mean) / sqrt(var + eps) * weight + shift."""
    first, last = row_range(args, chunk)
    n, weight, shift, eps, share = norm_fields(args)
    for t in range(first, last):
        x, y = load_i64(args + N.x) + 4 * n * t, load_i64(args + N.y) + 4 * n * t
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


def match(args, chunk):
    """a times how much louder x is, at most `clamp` times (no limit where clamp is negative)."""
    first, last = row_range(args, chunk)
    n = load_i64(args + M.width)
    clamp, share, tiny = real_of_bits(load_i64(args + M.clamp)), F(1) / F(n), F(1e-6)
    for t in range(first, last):
        x, a = load_i64(args + M.x) + 4 * n * t, load_i64(args + M.a) + 4 * n * t
        y = load_i64(args + M.y) + 4 * n * t
        ratio = root(sum_of_squares(x, n) * share + tiny) / root(sum_of_squares(a, n) * share + tiny)
        if clamp >= F(0):
            ratio = min(ratio, clamp)
        for c in range(0, n, 16):
            store_up_to(y + 4 * c, mul(load_up_to(a + 4 * c, n - c), real(ratio)), n - c)


def rope(args, chunk):
    """[x1 | x2] -> [x1 cos - x2 sin | x2 cos + x1 sin] per head."""
    first, last = row_range(args, chunk)
    heads, half = load_i64(args + R.heads), load_i64(args + R.half)
    for t in range(first, last):
        cos, sin = load_i64(args + R.cos) + 4 * half * t, load_i64(args + R.sin) + 4 * half * t
        for h in range(heads):
            at = 8 * half * (t * heads + h)
            x, y = load_i64(args + R.x) + at, load_i64(args + R.y) + at
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


def softmax(args, chunk):
    """Along rows."""
    first, last = row_range(args, chunk)
    n = load_i64(args + S.width)
    for t in range(first, last):
        softmax_row(load_i64(args + S.x) + 4 * n * t, load_i64(args + S.y) + 4 * n * t, n)


def map_rows(args, chunk):
    """sigmoid or GELU, element-wise."""
    first, last = row_range(args, chunk)
    n, function = load_i64(args + S.width), load_i64(args + S.function)
    for t in range(first, last):
        x, y = load_i64(args + S.x) + 4 * n * t, load_i64(args + S.y) + 4 * n * t
        for c in range(0, n, 16):
            v = load_up_to(x + 4 * c, n - c)
            v = gelu(v) if function == GELU else sigmoid(v)
            store_up_to(y + 4 * c, v, n - c)
