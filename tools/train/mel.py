"""The mel scale, 2595 log10(1 + f / 700)."""

from __future__ import annotations

import numpy as np


def spaced(low: float, high: float, count: int) -> np.ndarray:
    """(count,) frequencies in Hz from `low` to `high`, equally far apart on the mel scale."""
    mel = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (low, high)), count)
    return 700 * (10 ** (mel / 2595) - 1)
