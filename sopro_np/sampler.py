"""Logits -> one code: temperature, repetition penalty, top-k, top-p, and a breaker for loops.

The order of the steps is upstream's and matters. Random numbers come from PCG64's raw 64-bit stream, which
NumPy promises to keep; its distributions it does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sopro_np import ops
from sopro_np.options import DEFAULTS, Options

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

    def __init__(self, options: Options = DEFAULTS) -> None:
        o = options
        self.temperature, self.top_p, self.top_k = o.temperature, o.top_p, o.top_k
        self._uniform = Uniform(o.seed)
        self._history: list[int] = []

    def __call__(self, logits: np.ndarray) -> int:
        """logits (V,) -> code."""
        temperature, top_p = self.temperature, self.top_p
        if repeated_tail(self._history):  # upstream also asks for nine equal codes; six are a repeated tail already
            temperature, top_p = STUCK_TEMPERATURE, STUCK_TOP_P
        seen = self._history[-PENALTY_WINDOW:]
        code = ops.sample(logits, seen, temperature, self.top_k, top_p, PENALTY, self._uniform.draw())
        self._history.append(code)
        return code


def repeated_tail(history: Sequence[int], longest: int = 16) -> bool:
    """Do the last n codes equal the n before them, for some n in 3..longest?"""
    for n in range(3, min(longest, len(history) // 2) + 1):
        if history[-1] == history[-1 - n] and list(history[-n:]) == list(history[-2 * n : -n]):
            return True
    return False
