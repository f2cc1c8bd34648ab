"""What a frame is made of, as one vector, and the way back (../features.py for a teacher's parameters at 24 kHz).

Weights make distances what is heard: levels as mel-cepstra, voicing as square roots (amplitudes), then the bends and
the logarithm of the periods.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tools.train.taught.analysis import BANDS, POINTS, SILENT, SUB
from tools.train.taught.pitch import FEWEST, MOST, bends, turns
from tools.train.taught.teach import Taught
from tools.train.taught.voice import Parameters

COSINES = 40  # coefficients kept of an envelope
FLOOR = 1e-3  # amplitude below which a point counts as silent; speech here has an RMS of 0.044
LOUDNESS, DETAIL = 0.5, 0.8  # weights of the first coefficient, and of those from the 12th on
SHARP = 1.2  # times an envelope's detail when it is said: means of many frames, as codes are, have lost some
VOICING, BEND, PITCH = 1.2, 24.0, 64.0
PER_PART = COSINES + BANDS
PITCHES = 3  # values at a vector's end that are about pitch
WIDTH = SUB * PER_PART + PITCHES


@cache
def cosines() -> tuple[np.ndarray, np.ndarray]:
    """(POINTS, COSINES) orthonormal cosine transform, and the coefficients' weights (COSINES,)."""
    k, n = np.arange(COSINES), np.arange(POINTS)[:, None] + 0.5
    basis = np.cos(np.pi * k * n / POINTS) * np.sqrt(2 / POINTS)
    basis[:, 0] /= np.sqrt(2)
    return basis, np.where(k == 0, LOUDNESS, np.where(k < 12, 1.0, DETAIL))


def parameters(taught: Taught) -> Parameters:
    """A lesson with its pitch as periods and bends."""
    periods = turns(taught.pitch)
    return Parameters(taught.levels, taught.voicing, periods, bends(taught.pitch, periods))


def vectors(found: Parameters) -> np.ndarray:
    """(T, WIDTH)."""
    basis, weights = cosines()
    levels = 0.5 * np.log(np.exp(2 * found.levels) + FLOOR**2)
    parts = np.concatenate((levels @ basis * weights, np.sqrt(found.voicing) * VOICING), 1).reshape(-1, SUB * PER_PART)
    pitches = found.bends * BEND, PITCH * np.log(found.turns)[:, None]
    return np.concatenate((parts, *pitches), 1).astype(np.float32)


def heard(found: np.ndarray) -> Parameters:
    """What vectors (T, WIDTH) say, as voice.speech takes it."""
    found = np.asarray(found, float)
    parts, pitches = found[:, :-PITCHES].reshape(-1, PER_PART), found[:, -PITCHES:]
    basis, weights = cosines()
    cepstra = parts[:, :COSINES] / weights
    levels = 0.5 * np.log(np.maximum(np.exp(2 * cepstra @ basis.T) - FLOOR**2, SILENT**2))
    levels += cepstra[:, 2:] @ basis[:, 2:].T * (SHARP - 1)
    voicing = np.clip(parts[:, COSINES:] / VOICING, 0, 1) ** 2
    periods = np.maximum(FEWEST, np.round(np.exp(pitches[:, -1] / PITCH)))
    return Parameters(levels, voicing, periods, np.clip(pitches[:, :-1] / BEND, -MOST, MOST))
