"""Whole periods in every frame, and how the pitch bends inside one.

The phase is whole where a frame begins, so nothing has to be counted across frames, and a wrong code is forgotten with
its frame. A slope and a curvature (Legendre polynomials, whose means are 0) let the pitch move without changing that.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tools.train.taught.analysis import SUB, VOICED
from tools.train.vocoder import FRAME, RATE

FEWEST = 2.0  # periods in a frame: 25 Hz
SILENT = 14.0  # periods where nothing is voiced at all
STIFF = 0.05  # against bends that a frame's few voiced parts do not ask for
MOST = 0.45  # of a bend: the pitch stays above 0


@cache
def polynomials() -> np.ndarray:
    """(2, SUB): slope and curvature at the middles of the parts, of mean 0."""
    w = (np.arange(SUB) + 0.5) / SUB * 2 - 1
    found = np.stack((w, 1.5 * w**2 - 0.5))
    return found - found.mean(1, keepdims=True)


def turns(pitch: np.ndarray) -> np.ndarray:
    """Pitch (T SUB,) in Hz, 0 = none -> whole periods of the frames (T,), between neighbours where no voice is."""
    frames, number = pitch.reshape(-1, SUB), np.arange(len(pitch) // SUB)
    voiced = frames > VOICED
    known = voiced.sum(1) >= 2
    if not known.any():
        return np.full(len(frames), SILENT)
    mean = (frames * voiced).sum(1)[known] / voiced.sum(1)[known]
    return np.maximum(FEWEST, np.round(np.interp(number, number[known], mean) * FRAME / RATE))


def bends(pitch: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """(T, 2): slope and curvature of pitch (T SUB,) as shares of the frames' mean pitch, periods (T,) given."""
    frames = pitch.astype(float).reshape(-1, SUB)
    voiced = (frames > VOICED).astype(float)
    rest = (frames / (periods * RATE / FRAME)[:, None] - 1) * voiced
    basis = polynomials()
    products = np.einsum("fs,as,bs->fab", voiced, basis, basis) + STIFF * np.eye(2)
    found = np.linalg.solve(products, np.einsum("fs,as->fa", rest, basis)[..., None])[..., 0]
    return np.clip(found, -MOST, MOST)


def phase(periods: np.ndarray, bent: np.ndarray) -> np.ndarray:
    """Periods (T,) and bends (T, 2) -> phase in turns (T FRAME,), whole at the beginnings of frames."""
    t = np.arange(FRAME) / FRAME
    w = 2 * t - 1
    own = periods[:, None] * (t + bent[:, :1] * (w**2 - 1) / 4 + bent[:, 1:] * (w**3 - w) / 4)
    return (np.concatenate(([0.0], np.cumsum(periods)[:-1]))[:, None] + own).ravel()


def cents(periods: np.ndarray, bent: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """How far the rendered pitch is off, for the voiced parts of pitch (T SUB,)."""
    found = phase(periods, bent).reshape(-1, FRAME // SUB)
    rendered = (found[:, -1] - found[:, 0]) / (FRAME // SUB - 1) * RATE
    voiced = pitch > VOICED
    return 1200 * np.log2(np.maximum(rendered[voiced], 1) / pitch[voiced])
