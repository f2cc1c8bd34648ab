"""What a frame of speech is made of, as one vector: envelopes, voicing and pitch of 80 ms.

Per 5 ms an envelope (log amplitudes at mel-spaced frequencies above a floor, as cosine coefficients, so that distances
are those of mel-cepstra) and the voicing of five bands; per frame the number of pitch periods. Principal components of
the whole frame are what codes stand for: the encoder is taught to find them in a waveform, the decoder to say them.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from tools.train.flite import STRENGTHS
from tools.train.mel import spaced
from tools.train.vocoder import FRAME, HOP, HOPS, RATE, SIZE, cepstrum_basis

POINTS = 48  # frequencies of an envelope
COSINES = 22  # coefficients kept of it
FLOOR = 7e-4  # amplitude below which a band counts as silent; speech here has an RMS of 0.07
LOUDNESS, DETAIL = 0.5, 0.8  # weights of the first coefficient, and of those from the 12th on
VOICING = 1.2  # weights of a band's voicing, and of the logarithm of the periods per frame
PITCH = 32.0
PER_HOP = COSINES + STRENGTHS
WIDTH = HOPS * PER_HOP + 1


class Parameters(NamedTuple):
    """Every 5 ms: cepstra (t, 25) of amplitudes around 1, voiced (t,), strengths (t, 5); turns (t / HOPS,)."""

    cepstra: np.ndarray
    voiced: np.ndarray
    strengths: np.ndarray
    turns: np.ndarray

    def spectrum(self, shift: float) -> np.ndarray:
        """(t, SIZE / 2 + 1) complex log spectra of minimum phase at 24 kHz."""
        return self.cepstra @ cepstrum_basis(self.cepstra.shape[1], shift)


@cache
def points() -> np.ndarray:
    """(POINTS,) Hz, equally spaced on the mel scale."""
    return spaced(60, 8000, POINTS)


@cache
def cosines() -> tuple[np.ndarray, np.ndarray]:
    """(POINTS, COSINES) orthonormal cosine transform, and the coefficients' weights (COSINES,)."""
    k, n = np.arange(COSINES), np.arange(POINTS)[:, None] + 0.5
    basis = np.cos(np.pi * k * n / POINTS) * np.sqrt(2 / POINTS)
    basis[:, 0] /= np.sqrt(2)
    return basis, np.where(k == 0, LOUDNESS, np.where(k < 12, 1.0, DETAIL))


@cache
def sampling() -> np.ndarray:
    """(SIZE / 2 + 1, POINTS) linear interpolation of a spectrum at the points."""
    bins = points() * SIZE / RATE
    low = np.floor(bins).astype(int)
    matrix = np.zeros((SIZE // 2 + 1, POINTS))
    matrix[low, np.arange(POINTS)] = 1 - (bins - low)
    matrix[low + 1, np.arange(POINTS)] += bins - low
    return matrix


def at_times(track: np.ndarray, gain: float, seconds: np.ndarray, shift: float) -> Parameters:
    """Flite's track (n, 31: pitch, 5 strengths, 25 cepstra; every 5 ms) at these times of the shifted speech.

    The times are 5 ms apart, and whole frames of them; before and after the track there is silence.
    """
    place = seconds * shift * RATE / HOP - 0.5  # a row stands for the middle of its hop
    inside = (place >= 0) & (place <= len(track) - 1)
    low = np.clip(np.floor(place).astype(int), 0, len(track) - 2)
    part = np.clip(place - low, 0, 1)[:, None]
    values = track[low] * (1 - part) + track[low + 1] * part
    nearest = track[np.clip(np.round(place).astype(int), 0, len(track) - 1), 0]
    pitch = np.where(inside, nearest, 0) * shift
    cepstra = values[:, 1 + STRENGTHS :].copy()
    cepstra[:, 0] += np.log(gain)
    cepstra[~inside] = 0
    cepstra[~inside, 0] = np.log(1e-5)
    return Parameters(cepstra, (pitch > 0).astype(float), values[:, 1 : 1 + STRENGTHS], periods(pitch))


def periods(pitch: np.ndarray) -> np.ndarray:
    """Pitch (t,) every 5 ms, 0 = unvoiced -> whole periods of each frame (t / HOPS,), unvoiced ones as neighbours."""
    frames = pitch.reshape(-1, HOPS)
    voiced = frames > 0
    number = np.arange(len(frames))
    known = voiced.sum(1) >= 2
    if not known.any():
        return np.full(len(frames), 8.0)
    mean = frames.sum(1)[known] / voiced.sum(1)[known]
    return np.round(np.maximum(2, np.interp(number, number[known], mean) * FRAME / RATE))


def vectors(parameters: Parameters, shift: float) -> np.ndarray:
    """(t / HOPS, WIDTH) of parameters."""
    levels = parameters.spectrum(shift).real @ sampling()
    levels = 0.5 * np.log(np.exp(2 * levels) + FLOOR**2)
    basis, weights = cosines()
    strengths = parameters.strengths * parameters.voiced[:, None] * VOICING
    hops = np.concatenate((levels @ basis * weights, strengths), 1).reshape(-1, HOPS * PER_HOP)
    return np.concatenate((hops, PITCH * np.log(parameters.turns)[:, None]), 1).astype(np.float32)


def minimum_phase(levels: np.ndarray) -> np.ndarray:
    """Log amplitudes (t, POINTS) -> complex log spectra (t, SIZE / 2 + 1), by folding the cepstrum."""
    f = np.fft.rfftfreq(SIZE, 1 / RATE)
    wide = np.array([np.interp(f, points(), row) for row in levels])
    cepstrum = np.fft.irfft(wide, axis=1)
    cepstrum[:, 1 : SIZE // 2] *= 2
    cepstrum[:, SIZE // 2 + 1 :] = 0
    return np.fft.rfft(cepstrum, axis=1)


def voicing(vectors: np.ndarray) -> np.ndarray:
    """Strengths of the bands' voicing (t, 5), 0 to 1, in vectors (t / HOPS, WIDTH)."""
    return np.clip(vectors[:, :-1].reshape(-1, PER_HOP)[:, COSINES:] / VOICING, 0, 1)


def heard(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What vocoder.speech takes, of vectors (T, WIDTH): the way back, to listen to what codes keep."""
    hops = vectors[:, :-1].reshape(-1, PER_HOP)
    basis, weights = cosines()
    levels = (hops[:, :COSINES] / weights) @ basis.T
    turns = np.maximum(2, np.round(np.exp(vectors[:, -1] / PITCH)))
    return minimum_phase(levels), np.ones(len(hops)), voicing(vectors), turns
