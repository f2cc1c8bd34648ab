"""softmax(q k^T / sqrt(d)) v, a head and a few rows at a time.

A score is 16 partial sums along d, added in a fixed order; an output is one sum along the keys. Both are the same
whether one row is computed or many, and whatever comes later in a stream.
"""

from __future__ import annotations

import numpy as np

from sopro_np.kernels.functions import inline, load_up_to, store_up_to
from sopro_np.kernels.rows import softmax_row
from sopro_np.kernels.simd import tile
from sopro_np.kernels.simd.reduce import total
from sopro_np.kernels.simd.vector import fma, load, load_real, mul, real, real_of_bits, store, store_real
from sopro_np.ops.abi import ATTENTION_ROWS

F = np.float32
none, more, sums16 = tile.dots()
ROWS = min(ATTENTION_ROWS, tile.TARGET.rows)
VECTORS = tile.TARGET.vectors
words = tile.words(ROWS, VECTORS, "fp32")
zeros, step, spill = words.zeros, words.step, words.spill
stack = tile.scratch(64 * ROWS * VECTORS)


@inline
def score_group(q, k, stride, d, scale, scores):
    """Scores of one query with 16 keys."""
    acc = none()
    for c in range(0, d, 16):
        acc = more(acc, load(q + 4 * c), k + 4 * c, stride)
    store(scores, mul(sums16(acc), real(scale)))


@inline
def score_one(q, k, d, scale, scores):
    """The score of one query with one key."""
    partial = real(F(0))
    for c in range(0, d, 16):
        partial = fma(load_up_to(q + 4 * c, d - c), load_up_to(k + 4 * c, d - c), partial)
    store_real(scores, total(partial) * scale)


@inline
def mix_row(scores, v, stride, d, visible, y):
    """Sum of the values, weighted: one row."""
    for c in range(0, d, 16):
        out = real(F(0))
        for s in range(visible):
            out = fma(real(load_real(scores + 4 * s)), load_up_to(v + stride * s + 4 * c, d - c), out)
        store_up_to(y + 4 * c, out, d - c)


@inline
def mix_rows(scores, scores_stride, v, stride, d, visible, y, y_stride):
    """The same for ROWS rows at once; beyond its own keys a row has weights of zero."""
    buffer = stack()
    for c in range(0, d, 16 * VECTORS):
        out = zeros()
        at = v + 4 * c
        for s in range(visible):
            out = step(out, scores + 4 * s, scores_stride, at, 64)
            at += stride
        spill(out, buffer, 64 * VECTORS)
        for i in range(ROWS):
            for j in range(VECTORS):
                store(y + y_stride * i + 4 * c + 64 * j, load(buffer + 64 * (i * VECTORS + j)))


@inline
def gather(source, stride, d, rows, target):
    """The rows of one head, which lie `stride` apart, side by side: (rows, d). A stride of a power of two would
    let all of them compete for a few lines of the fastest cache."""
    for s in range(rows):
        for c in range(0, d, 16):
            store_up_to(target + 4 * (d * s + c), load_up_to(source + stride * s + 4 * c, d - c), d - c)


def attention(args, piece):
    """One head, `row_block` rows. The scores of some rows at a time lie in this piece's own stretch of `scores`."""
    row_blocks, row_block = args.row_blocks, args.row_block
    head, first = piece // row_blocks, piece % row_blocks * row_block
    last = min(first + row_block, args.rows)
    d, keys, causal = args.d, args.keys, args.first
    stride, scale = args.stride, real_of_bits(args.factor)
    k, v = args.k + 4 * d * head, args.v + 4 * d * head
    kv_stride = stride
    scores_stride = args.scores_stride
    scores = args.scores + piece * args.piece_stride
    if last - first >= ATTENTION_ROWS:
        near = scores + scores_stride * ATTENTION_ROWS
        gather(k, stride, d, keys, near)
        gather(v, stride, d, keys, near + 4 * d * keys)
        k, v, kv_stride = near, near + 4 * d * keys, 4 * d
    for t in range(first, last, ROWS):
        rows = min(ROWS, last - t)
        most = keys
        if causal >= 0:
            most = min(keys, causal + t + rows)
        q = args.q + stride * t + 4 * d * head
        for s in range(0, most, 16):  # the keys of a group stay in the cache for all rows
            for i in range(rows):
                visible = keys
                if causal >= 0:
                    visible = min(keys, causal + t + i + 1)
                at, own = k + kv_stride * s, scores + scores_stride * i + 4 * s
                if s + 16 <= visible and d % 16 == 0:
                    score_group(q + stride * i, at, kv_stride, d, scale, own)
                else:
                    for j in range(min(16, visible - s)):
                        score_one(q + stride * i, at + kv_stride * j, d, scale, own + 4 * j)
        for i in range(rows):
            own = scores + scores_stride * i
            visible = keys
            if causal >= 0:
                visible = min(keys, causal + t + i + 1)
            softmax_row(own, own, visible)
            for s in range(visible, most):
                store_real(own + 4 * s, F(0))
        y = args.y + stride * t + 4 * d * head
        if rows == ROWS and d % (16 * VECTORS) == 0:
            mix_rows(scores, scores_stride, v, kv_stride, d, most, y, stride)
        else:
            for i in range(rows):
                mix_row(scores + scores_stride * i, v, kv_stride, d, most, y + stride * i)
