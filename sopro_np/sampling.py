"""Logits -> one code: temperature, repetition penalty, top-k, top-p, and a breaker for loops.

The order of the steps is upstream's and matters. Random numbers come from PCG64's raw 64-bit stream, which
NumPy promises to keep; its distributions it does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    x = np.nan_to_num(logits.astype(np.float32), nan=-1e9, posinf=1e9, neginf=-1e9)
    if temperature not in (0.0, 1.0):
        x = x / np.float32(temperature)
    if penalty != 1.0 and history:
        seen = np.unique(np.asarray(history[-PENALTY_WINDOW:], np.int64))
        x[seen] = np.where(x[seen] < 0, x[seen] * np.float32(penalty), x[seen] / np.float32(penalty))
    e = np.exp(x - x.max())
    p = e / e.sum()
    order = np.argsort(-p, kind="stable")
    if top_k > 0:
        order = order[:top_k]
        p = _keep(p, order)
    if top_p is not None and top_p < 1:
        before = np.concatenate([[0], np.cumsum(p[order])[:-1]])
        kept = before <= top_p  # the code that crosses the threshold stays,
        kept[0] = True  # and so does the first one
        p = _keep(p, order[kept])
    return p


def _keep(p: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Only these entries, scaled to sum 1; all weight on the best one if nothing is left of them."""
    kept = np.zeros_like(p)
    kept[index] = p[index]
    total = kept.sum()
    if total <= 1e-12:
        kept[:] = 0
        kept[p.argmax()] = 1
        return kept
    return kept / total


def choose(p: np.ndarray, u: float) -> int:
    """Inverse of the cumulative distribution at u in [0, 1). p (V,) -> code of positive probability."""
    cumulative = np.cumsum(p, dtype=np.float64)
    code = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    return min(code, int(np.flatnonzero(p)[-1]))


def repeated_tail(history: Sequence[int], longest: int = 16) -> bool:
    """Do the last n codes equal the n before them, for some n in 3..longest?"""
    n_max = min(longest, len(history) // 2)
    return any(list(history[-n:]) == list(history[-2 * n : -n]) for n in range(3, n_max + 1))
