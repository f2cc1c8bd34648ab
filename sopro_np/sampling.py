"""Logits -> one code: temperature, repetition penalty, top-k, top-p, and a breaker for loops.

The order of the steps is upstream's and matters. Random numbers come from PCG64's raw 64-bit stream, which
NumPy promises to keep; its distributions it does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopro_np import ops

TOP_K = 50
PENALTY = 1.1
PENALTY_WINDOW = 50
STUCK_TOP_P = 0.85
STUCK_TEMPERATURE = 1.2


class Uniform:
    """Numbers in [0, 1) from a seed: the upper 53 bits of PCG64's raw output."""

    def __init__(self, seed: int | None) -> None:
        self._bits = np.random.PCG64(seed)

    def draw(self) -> float:
        return float(int(self._bits.random_raw()) >> 11) * 2.0**-53


class Sampler:
    """One utterance's choices: remembers what was said, and leaves the usual path when it goes in circles."""

    def __init__(
        self, temperature: float = 1.05, top_p: float | None = 0.9, top_k: int = TOP_K, seed: int | None = None
    ) -> None:
        self.temperature, self.top_p, self.top_k = temperature, top_p, top_k
        self._uniform = Uniform(seed)
        self._history: list[int] = []

    def __call__(self, logits: np.ndarray) -> int:
        """logits (V,) -> code."""
        temperature, top_p = self.temperature, self.top_p
        if repeated_tail(self._history):  # upstream also asks for nine equal codes; six are a repeated tail already
            temperature, top_p = STUCK_TEMPERATURE, STUCK_TOP_P
        p = distribution(logits, self._history, temperature, self.top_k, top_p, PENALTY)
        code = choose(p, self._uniform.draw())
        self._history.append(code)
        return code


def distribution(
    logits: np.ndarray,
    history: Sequence[int],
    temperature: float,
    top_k: int,
    top_p: float | None,
    penalty: float,
) -> np.ndarray:
    """Probabilities to draw from. logits (V,) -> (V,) float32, zero outside the support.

    Temperature 0 means "not applied", as upstream (greedy is top_k=1). The penalty divides positive and
    multiplies negative logits of every code among the last 50.
    """
    x = np.fmin(np.fmax(logits.astype(np.float32), np.float32(-1e9)), np.float32(1e9))  # NaN counts as -1e9
    if temperature not in (0.0, 1.0):
        x /= np.float32(temperature)
    if penalty != 1.0 and history:
        seen = np.array(list(set(history[-PENALTY_WINDOW:])), np.int64)
        x[seen] = np.where(x[seen] < 0, x[seen] * np.float32(penalty), x[seen] / np.float32(penalty))
    every = ops.softmax(x)
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


def repeated_tail(history: Sequence[int], longest: int = 16) -> bool:
    """Do the last n codes equal the n before them, for some n in 3..longest?"""
    n_max = min(longest, len(history) // 2)
    return any(list(history[-n:]) == list(history[-2 * n : -n]) for n in range(3, n_max + 1))
