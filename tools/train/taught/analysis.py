"""Levels and voicing every 10 ms of a teacher whose pitch, tonal part and noisy part are known.

A level is the log amplitude of a spectral density at a mel-spaced point, white noise of variance 1 having 0. Levels are
read off an envelope that does not depend on where the harmonics are (Morise, CheapTrick, a spectral envelope estimator
for high-quality speech synthesis, 2015). A band's voicing is the tonal share of its power: there is no pitch tracker
and no guess at what is voiced, the teacher says both.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tools.train.mel import spaced
from tools.train.vocoder import RATE

SUB = 8  # parts of a frame, 10 ms each
SIZE = 1024  # samples of a transform
POINTS, LOWEST, HIGHEST = 80, 60.0, 11600.0
EDGES = (0, 1000, 2000, 4000, 6000, 8000, 12000)  # Hz, of the bands of voicing
BANDS = len(EDGES) - 1
OVERLAP = 300.0  # Hz
VOICED = 40.0  # Hz: a pitch below it means none
UNVOICED = 240.0  # Hz, whose window and smoothing noise gets: 12.5 ms and 160 Hz
SILENT = 1e-4  # amplitude that levels do not fall below
PERIODS = 3.0  # under a window
RECOVERED = 0.15  # of the neighbours' harmonics, by which smoothing is made up for


@cache
def points() -> np.ndarray:
    """(POINTS,) Hz."""
    return spaced(LOWEST, HIGHEST, POINTS)


@cache
def at_points() -> np.ndarray:
    """(SIZE / 2 + 1, POINTS): linear interpolation of a spectrum at the points."""
    place = points() * SIZE / RATE
    low, matrix = np.floor(place).astype(int), np.zeros((SIZE // 2 + 1, POINTS))
    matrix[low, np.arange(POINTS)] = 1 - (place - low)
    matrix[low + 1, np.arange(POINTS)] += place - low
    return matrix


def band_shares(frequencies: np.ndarray) -> np.ndarray:
    """(n,) Hz -> (n, BANDS) how much each belongs to which band; rows add to 1."""
    rise = [np.ones_like(frequencies)] + [np.clip((frequencies - e) / OVERLAP + 0.5, 0, 1) for e in EDGES[1:-1]]
    return np.array([a - b for a, b in zip(rise, [*rise[1:], np.zeros_like(frequencies)], strict=True)]).T


def density(wave: np.ndarray, pitch: np.ndarray, step: float) -> np.ndarray:
    """Power densities (t, SIZE / 2 + 1) around the middles of parts `step` samples long, PERIODS of pitch (t,) wide."""
    middles = np.round((np.arange(len(pitch)) + 0.5) * step).astype(int)
    padded = np.pad(wave, (SIZE // 2, max(0, middles[-1] + SIZE // 2 - len(wave))))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[middles]
    turns = (np.arange(SIZE) - SIZE // 2) / RATE * pitch[:, None] / PERIODS
    window = np.where(np.abs(turns) < 0.5, 0.5 + 0.5 * np.cos(2 * np.pi * turns), 0)
    still = (pieces * window).sum(1, keepdims=True) / window.sum(1, keepdims=True)
    spectra = np.fft.rfft((pieces - still) * window)
    return (spectra.real**2 + spectra.imag**2) / (window**2).sum(1, keepdims=True)


def smoothed(power: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Means of power (t, bins) over width (t,) Hz around every bin, mirrored at both ends."""
    bins = power.shape[1]
    beyond = int(np.ceil(width.max() / RATE * SIZE)) + 1
    mirrored = np.pad(power, ((0, 0), (beyond, beyond)), "reflect")
    total = np.pad(np.cumsum(mirrored, 1), ((0, 0), (1, 0)))
    half = (width / RATE * SIZE / 2)[:, None]
    sums = []
    for sign in (-1, 1):
        end = beyond + np.arange(bins) + 0.5 + sign * half
        whole = end.astype(int)
        before = np.take_along_axis(total, whole, 1)
        sums.append(before + (end - whole) * (np.take_along_axis(total, whole + 1, 1) - before))
    return (sums[1] - sums[0]) / (2 * half)


def envelopes(wave: np.ndarray, pitch: np.ndarray, step: float) -> np.ndarray:
    """Log amplitudes (t, SIZE / 2 + 1) of a waveform at RATE, with the pitch (t,) of its parts, all above 0."""
    power = density(wave, pitch, step)
    f = np.fft.rfftfreq(SIZE, 1 / RATE)
    mirror = pitch[:, None] - f  # what is below the pitch has its mirror image added: nobody sings there
    place = np.clip(mirror * SIZE / RATE, 0, None)
    low, rows = place.astype(int), np.arange(len(power))[:, None]
    image = power[rows, low] + (place - low) * (power[rows, low + 1] - power[rows, low])
    power = smoothed(power + np.where(mirror > 0, image, 0), pitch * 2 / 3)
    cepstra = np.fft.irfft(np.log(power + SILENT**2))
    turns = np.minimum(np.arange(SIZE), SIZE - np.arange(SIZE)) / RATE * pitch[:, None]
    lifter = np.sinc(turns) * (1 + 2 * RECOVERED - 2 * RECOVERED * np.cos(2 * np.pi * turns))
    return 0.5 * np.fft.rfft(cepstra * lifter).real


def analyse(tonal: np.ndarray, other: np.ndarray, pitch: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms, and pitch (t,) of parts `step` samples long, 0 = none -> levels (t, POINTS), voicing (t, BANDS)."""
    voiced = pitch > VOICED
    width = np.where(voiced, np.maximum(pitch, LOWEST), UNVOICED)
    levels = np.maximum(envelopes(tonal + other, width, step) @ at_points(), np.log(SILENT))
    bands = band_shares(np.fft.rfftfreq(SIZE, 1 / RATE))
    sung, rest = (density(wave, width, step) @ bands for wave in (tonal, other))
    return levels, sung * voiced[:, None] / np.maximum(sung + rest, 1e-20)


def pitch_at(pitch: np.ndarray, hop: int, count: int, step: float) -> np.ndarray:
    """Pitch every `hop` samples, 0 = none -> (count,) in the middles of parts `step` samples long.

    Voiced and unvoiced are not mixed.
    """
    place = (np.arange(count) + 0.5) * step / hop - 0.5
    low = np.clip(np.floor(place).astype(int), 0, len(pitch) - 1)
    high, part = np.minimum(low + 1, len(pitch) - 1), np.clip(place - low, 0, 1)
    before, after = pitch[low], pitch[high]
    both = (before > VOICED) & (after > VOICED)
    found = np.where(both, before * (1 - part) + after * part, np.where(part < 0.5, before, after))
    return np.where((found > VOICED) & (place < len(pitch)), found, 0)
