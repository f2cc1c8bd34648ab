"""Dynamic time warping: which frame of one utterance corresponds to which of the other (Sakoe & Chiba 1978)."""

from __future__ import annotations

import numpy as np

from sopro_np.errors import UsageError


def align(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (T, D) and (S, D) -> indices i (n,), j (n,) of the cheapest path from (0, 0) to (T-1, S-1).

    Cost of a pair: Euclidean distance; steps (1, 1), (1, 0), (0, 1), each of weight 1; ties prefer the diagonal.
    Anti-diagonals are computed at once: memory T*S bytes, T + S steps.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1:] != b.shape[1:] or not len(a) or not len(b):
        raise UsageError(f"features of shapes {a.shape} and {b.shape} cannot be aligned")
    t, s = len(a), len(b)
    came = np.zeros((t, s), np.int8)  # 0: from (i-1, j-1), 1: from (i-1, j), 2: from (i, j-1)
    before = last = np.full(t + 1, np.inf)  # totals of the two diagonals before, at [i + 1]
    for k in range(t + s - 1):
        i = np.arange(max(0, k - s + 1), min(t, k + 1))
        cost = np.sqrt(np.square(a[i] - b[k - i]).sum(axis=1))
        ways = np.stack([before[i], last[i], last[i + 1]])
        best = ways.argmin(axis=0)
        came[i, k - i] = best
        now = np.full(t + 1, np.inf)
        now[i + 1] = cost + (ways[best, np.arange(len(i))] if k else 0)
        before, last = last, now
    path = [(t - 1, s - 1)]
    while path[-1] != (0, 0):
        i_, j_ = path[-1]
        way = came[i_, j_]
        path.append((i_ - (way != 2), j_ - (way != 1)))
    pairs = np.array(path[::-1])
    return pairs[:, 0], pairs[:, 1]
