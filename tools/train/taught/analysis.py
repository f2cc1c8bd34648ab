"""Levels and voicing every 10 ms of a teacher whose tonal and noisy parts are known apart.

A level is the log amplitude of a spectral density at a mel-spaced point, white noise of variance 1 having 0. A band's
voicing is the tonal share of its power. No pitch tracker and no guess at what is voiced: the teacher says both.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tools.train.mel import spaced
from tools.train.vocoder import RATE

SUB = 8  # parts of a frame, 10 ms each
WINDOW, SIZE = 480, 1024  # samples under a window, and of its transform
POINTS, LOWEST, HIGHEST = 48, 60.0, 11600.0
EDGES = (0, 1000, 2000, 4000, 6000, 8000, 12000)  # Hz, of the bands of voicing
BANDS = len(EDGES) - 1
OVERLAP = 300.0  # Hz
VOICED = 40.0  # Hz: a pitch below it means none
SILENT = 1e-4  # amplitude that levels do not fall below
NARROW = 94.0  # Hz over which noise is averaged; of what is tonal, a harmonic's width


@cache
def points() -> np.ndarray:
    """(POINTS,) Hz."""
    return spaced(LOWEST, HIGHEST, POINTS)


@cache
def triangles() -> np.ndarray:
    """(SIZE / 2 + 1, POINTS): means around the points."""
    f, at = np.fft.rfftfreq(SIZE, 1 / RATE)[:, None], np.concatenate(([20.0], points(), [12000.0]))
    out = np.clip(np.minimum((f - at[:-2]) / np.diff(at)[:-1], (at[2:] - f) / np.diff(at)[1:]), 0, 1)
    return (out / out.sum(0)).astype(np.float32)


def band_shares(frequencies: np.ndarray) -> np.ndarray:
    """(n,) Hz -> (n, BANDS) how much each belongs to which band; rows add to 1."""
    rise = [np.ones_like(frequencies)] + [np.clip((frequencies - e) / OVERLAP + 0.5, 0, 1) for e in EDGES[1:-1]]
    return np.array([a - b for a, b in zip(rise, [*rise[1:], np.zeros_like(frequencies)], strict=True)]).T


@cache
def window() -> np.ndarray:
    """(WINDOW,) of energy 1."""
    found = np.hanning(WINDOW + 1)[:-1]
    return (found / np.sqrt((found**2).sum())).astype(np.float32)


def density(wave: np.ndarray, count: int, step: float) -> np.ndarray:
    """Power densities (count, SIZE / 2 + 1) around the middles of parts that are `step` samples long."""
    middles = np.round((np.arange(count) + 0.5) * step).astype(int)
    wave = np.pad(wave.astype(np.float32), (WINDOW // 2, max(0, middles[-1] + WINDOW - len(wave))))
    pieces = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[middles]
    spectra = np.fft.rfft(pieces * window(), SIZE)
    return spectra.real**2 + spectra.imag**2


def smoothed(power: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Means of power (t, bins) over width (t,) Hz around every bin; edges repeat."""
    bins = power.shape[1]
    total = np.zeros((len(power), bins + 2))
    np.cumsum(np.concatenate((power, power[:, -1:]), 1), 1, out=total[:, 1:])
    half = (width / RATE * SIZE / 2)[:, None]
    ends = [np.clip(np.arange(bins) + 0.5 + sign * half, 0, bins) for sign in (-1, 1)]
    sums = []
    for end in ends:
        whole = end.astype(int)
        before = np.take_along_axis(total, whole, 1)
        sums.append(before + (end - whole) * (np.take_along_axis(total, whole + 1, 1) - before))
    return (sums[1] - sums[0]) / (ends[1] - ends[0])


def analyse(tonal: np.ndarray, other: np.ndarray, pitch: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms at RATE and pitch (t,) of parts `step` samples long, 0 = none -> levels (t, POINTS), voicing (t, BANDS).

    Two harmonics are further apart than points are: tonal power is averaged over the pitch before it is read.
    """
    count, voiced = len(pitch), pitch > VOICED
    width = np.where(voiced, np.maximum(pitch, LOWEST), NARROW)
    parts = (smoothed(density(wave, count, step), width) @ triangles() for wave in (tonal, other))
    sung, rest = next(parts) * voiced[:, None], next(parts)
    weights = band_shares(points()) * (points()[:, None] + 300)  # points stand for bands about as wide as that
    share = (sung @ weights) / np.maximum((sung + rest) @ weights, 1e-20)
    return 0.5 * np.log(sung + rest + SILENT**2), share


def pitch_at(pitch: np.ndarray, hop: int, count: int, step: float) -> np.ndarray:
    """Pitch every `hop` samples, 0 = none -> (count,) at the middles of parts `step` long, voiced and unvoiced not mixed."""
    place = (np.arange(count) + 0.5) * step / hop - 0.5
    low = np.clip(np.floor(place).astype(int), 0, len(pitch) - 1)
    high, part = np.minimum(low + 1, len(pitch) - 1), np.clip(place - low, 0, 1)
    before, after = pitch[low], pitch[high]
    both = (before > VOICED) & (after > VOICED)
    found = np.where(both, before * (1 - part) + after * part, np.where(part < 0.5, before, after))
    return np.where((found > VOICED) & (place < len(pitch)), found, 0)
