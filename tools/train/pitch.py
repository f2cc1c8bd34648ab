"""Median pitch of a recording, by the normalised autocorrelation of 40 ms frames."""

from __future__ import annotations

import numpy as np

LOWEST, HIGHEST = 60.0, 350.0  # Hz


def median_pitch(wave: np.ndarray, rate: int) -> float:
    """Hz, over frames that are loud and periodic; NaN if there are none. wave (n,) float."""
    size, hop = int(0.04 * rate), int(0.01 * rate)
    longest, shortest = int(rate / LOWEST), int(rate / HIGHEST)
    if len(wave) < size + longest:
        return float("nan")
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), size + longest)[::hop]
    head = frames[:, :size]
    energy = (head**2).sum(1)
    power = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), 1)
    lags = np.arange(shortest, longest)
    score = np.stack([(head * frames[:, lag : lag + size]).sum(1) for lag in lags], 1)
    score /= np.sqrt(energy[:, None] * (power[:, lags + size] - power[:, lags]) + 1e-9)
    best = score.max(1, keepdims=True)
    first = (score > 0.92 * best).argmax(1)  # the shortest lag nearly as good as the best: no octave below
    for _ in range(3):  # and from there up to the top of its hill
        up = np.minimum(first + 1, len(lags) - 1)
        rows = np.arange(len(first))
        first = np.where(score[rows, up] > score[rows, first], up, first)
    voiced = (best[:, 0] > 0.6) & (energy > 0.05 * energy.max())
    return float(np.median(rate / lags[first[voiced]])) if voiced.any() else float("nan")
