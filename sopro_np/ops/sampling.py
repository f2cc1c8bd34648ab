"""Logits -> one code: temperature, repetition penalty, top-k, top-p, and a place in what is left.

The order of the steps is upstream's and matters. Temperature 0 means "not applied", as upstream (greedy is top_k=1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopro_np.ops.activations import softmax


def sample(
    logits: np.ndarray,
    seen: Sequence[int],
    temperature: float,
    top_k: int,
    top_p: float | None,
    penalty: float,
    u: float,
) -> int:
    """logits (V,), codes that were drawn lately, a number u in [0, 1) -> code."""
    return choose(distribution(logits, seen, temperature, top_k, top_p, penalty), u)


def distribution(
    logits: np.ndarray,
    seen: Sequence[int],
    temperature: float,
    top_k: int,
    top_p: float | None,
    penalty: float,
) -> np.ndarray:
    """Probabilities to draw from. logits (V,) -> (V,) float32, zero outside the support.

    The penalty divides positive and multiplies negative logits of every code in `seen`, once.
    """
    x = np.fmin(np.fmax(logits.astype(np.float32), np.float32(-1e9)), np.float32(1e9))  # NaN counts as -1e9
    if temperature not in (0.0, 1.0):
        x /= np.float32(temperature)
    if penalty != 1.0 and seen:
        again = np.array(list(set(seen)), np.int64)
        x[again] = np.where(x[again] < 0, x[again] * np.float32(penalty), x[again] / np.float32(penalty))
    every = softmax(x)
    codes = _likeliest(every, top_k)
    p = every[codes]
    if top_k > 0:
        p = _share(p)
    if top_p is not None and top_p < 1:
        kept = np.ones(len(p), bool)  # the first one stays,
        kept[1:] = np.cumsum(p)[:-1] <= top_p  # and so does the code that crosses the threshold
        codes, p = codes[kept], _share(p[kept])
    result = np.zeros_like(every)
    result[codes] = p
    return result


def _likeliest(p: np.ndarray, count: int) -> np.ndarray:
    """Codes by falling probability, equal ones by number; the first `count` of them (0: all). p (V,) -> (n,)."""
    if not 0 < count < len(p):
        return np.argsort(-p, kind="stable")
    least = np.partition(p, len(p) - count)[len(p) - count]  # finds them without sorting 2,000 others
    candidates = np.flatnonzero(p >= least)
    return candidates[np.argsort(-p[candidates], kind="stable")[:count]]


def _share(p: np.ndarray) -> np.ndarray:
    """Scaled to sum 1; all weight on the first one if nothing is left. p falling."""
    total = p.sum()
    if total <= 1e-12:
        p = np.zeros_like(p)
        p[0] = 1
        return p
    return p / total


def choose(p: np.ndarray, u: float) -> int:
    """Inverse of the cumulative distribution at u in [0, 1). p (V,) -> code of positive probability."""
    cumulative = np.cumsum(p, dtype=np.float64)
    code = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    return min(code, int(np.flatnonzero(p)[-1]))
