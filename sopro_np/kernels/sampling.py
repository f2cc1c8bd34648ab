"""Logits -> one code: the likeliest one, or what ops/sampling.py draws, in one call."""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import inline, load_up_to
from sopro_np.kernels.rows import row_range, softmax_row
from sopro_np.kernels.simd.reduce import all_zero, first_equal, largest
from sopro_np.kernels.simd.vector import (
    div,
    double_of_bits,
    fma,
    larger,
    load,
    load_first,
    load_i64,
    load_real,
    real,
    real_of_bits,
    smaller,
    store,
    store_i64,
    store_real,
)

F = np.float32


def argmax_rows(args, piece):
    """Where the largest number of every head lies (the first one of equals), plus the head's offset."""
    first, last = row_range(args, piece)
    n, heads = args.width, args.heads
    whole = n - n % 16
    odd = real(F(0))  # stays zero, unless a number is NaN or infinite
    for t in range(first, last):
        for h in range(heads):
            x = args.x + 4 * n * (t * heads + h)
            top = real(F(-np.inf))
            for c in range(0, whole, 16):
                v = load(x + 4 * c)
                top, odd = larger(v, top), fma(v, real(F(0)), odd)
            if whole < n:
                odd = fma(load_first(x + 4 * whole, n - whole), real(F(0)), odd)
            best, index = largest(top), 0
            for i in range(whole, n):
                best = max(best, load_real(x + 4 * i))
            found = False
            for c in range(0, whole, 16):
                lane = first_equal(load(x + 4 * c), best)
                if lane < 16:
                    index, found = c + lane, True
                    break
            if not found:
                for i in range(whole, n):
                    if load_real(x + 4 * i) == best:
                        index = i
                        break
            store_i64(args.y + args.y_stride * t + 8 * h, load_i64(args.offsets + 8 * h) + index)
    if not all_zero(odd):
        store_i64(args.status, 1)


@inline
def take_largest(p, padded):
    """Index of the largest of `padded` numbers (the first one of equals), which is then struck out."""
    top = real(F(-1))
    for c in range(0, padded, 16):
        top = larger(load(p + 4 * c), top)
    best = largest(top)
    index = 0
    for c in range(0, padded, 16):
        lane = first_equal(load(p + 4 * c), best)
        if lane < 16:
            index = c + lane
            break
    store_real(p + 4 * index, F(-1))
    return index, best


@inline
def share(p, count):
    """Scaled to sum 1; all weight on the first one if nothing is left."""
    total = F(0)
    for i in range(count):
        total += load_real(p + 4 * i)
    for i in range(count):
        if total > F(1e-12):
            store_real(p + 4 * i, load_real(p + 4 * i) / total)
        else:
            store_real(p + 4 * i, F(1) if i == 0 else F(0))


@inline
def penalise(p, seen, count, penalty):
    """Every code among `seen` once: positive logits divided, negative ones multiplied."""
    for i in range(count):
        code, again = load_i64(seen + 8 * i), False
        for j in range(i):
            again = again or load_i64(seen + 8 * j) == code
        if not again:
            x = load_real(p + 4 * code)
            store_real(p + 4 * code, x * penalty if x < F(0) else x / penalty)


def sample(args, piece):
    """Temperature, penalty, softmax, the likeliest ones, and the one at `u` of their cumulative distribution."""
    n, logits, p = args.width, args.logits, args.scratch
    padded = (n + 15) // 16 * 16
    codes, kept = p + 4 * padded, p + 12 * padded
    temperature = real(real_of_bits(args.temperature))
    for c in range(0, n, 16):
        v = smaller(larger(load_up_to(logits + 4 * c, n - c), real(F(-1e9))), real(F(1e9)))
        store(p + 4 * c, div(v, temperature))
    penalise(p, args.seen, args.seen_count, real_of_bits(args.penalty))
    softmax_row(p, p, n)
    for i in range(n, padded):
        store_real(p + 4 * i, F(-1))
    top_k, top_p = args.top_k, real_of_bits(args.top_p)
    count = top_k if 0 < top_k < n else n
    for i in range(count):
        code, value = take_largest(p, padded)
        store_i64(codes + 8 * i, code)
        store_real(kept + 4 * i, value)
    if top_k > 0:
        share(kept, count)
    if top_p >= F(0):
        most, cumulative, i = count, load_real(kept), 1
        while i < most and cumulative <= top_p:  # the code that crosses the threshold stays
            cumulative += load_real(kept + 4 * i)
            i += 1
        count = i
        share(kept, count)
    for i in range(0, padded, 16):
        store(p + 4 * i, real(F(0)))
    for i in range(count):
        store_real(p + 4 * load_i64(codes + 8 * i), load_real(kept + 4 * i))
    total = 0.0
    for i in range(n):
        total += np.float64(load_real(p + 4 * i))
    threshold = double_of_bits(args.u) * total
    cumulative64, last = 0.0, 0
    for i in range(n):
        value64 = np.float64(load_real(p + 4 * i))
        if value64 > 0.0:
            last = i
            cumulative64 += value64
            if cumulative64 > threshold:
                break
    store_i64(args.code, last)
