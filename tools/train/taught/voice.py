"""Speech at 24 kHz that one frame's parameters determine, samples and all (the idea is that of ../vocoder.py).

Pulses with a whole number of periods in every frame and noise that is the same in every frame, through minimum-phase
filters that follow levels and voicing every 10 ms.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from tools.train.taught.analysis import POINTS, SUB, band_shares, points
from tools.train.taught.pitch import phase
from tools.train.vocoder import FRAME, RATE, frame_noise, pulses

HOP = FRAME // SUB
SIZE = 1024  # samples of an impulse response, 43 ms
BOTTOM, TOP = 80.0, 12000.0  # Hz where the spectrum begins and has ended
TONAL = 0.5  # exponent of voicing: part of what the teacher says with phases of its own is in step with its pulses


class Parameters(NamedTuple):
    """levels (8 T, POINTS) log amplitudes and voicing (8 T, BANDS) 0 to 1 every 10 ms; turns (T,), bends (T, 2)."""

    levels: np.ndarray
    voicing: np.ndarray
    turns: np.ndarray
    bends: np.ndarray


@cache
def frequencies() -> np.ndarray:
    """(SIZE / 2 + 1,) Hz."""
    return np.fft.rfftfreq(SIZE, 1 / RATE)


@cache
def between_points() -> np.ndarray:
    """(POINTS, SIZE / 2 + 1): from levels at the points to all frequencies, linearly."""
    return np.array([np.interp(frequencies(), points(), row) for row in np.eye(POINTS)])


@cache
def beginning() -> np.ndarray:
    """(SIZE / 2 + 1,) log gain of a Butterworth filter: pulses of one sign would move the middle of the waveform."""
    return np.maximum(-4.6, -0.5 * np.log1p((BOTTOM / np.maximum(frequencies(), 1)) ** 8))


def minimum_phase(levels: np.ndarray) -> np.ndarray:
    """Log amplitudes (t, SIZE / 2 + 1) -> complex spectra of minimum phase, by folding the cepstrum."""
    cepstrum = np.fft.irfft(levels, axis=1)
    cepstrum[:, 1 : SIZE // 2] *= 2
    cepstrum[:, SIZE // 2 + 1 :] = 0
    return np.exp(np.fft.rfft(cepstrum, axis=1))


def speech(parameters: Parameters, noise: np.ndarray | None = None) -> np.ndarray:
    """(FRAME T,) samples; noise (FRAME T,) of variance 1 instead of the frame's own."""
    count = len(parameters.levels)
    ending = np.clip((TOP - frequencies()) / 300, 0, 1)
    response = minimum_phase(parameters.levels @ between_points() + beginning()) * ending
    share = np.clip(parameters.voicing, 0, 1) ** TONAL @ band_shares(frequencies()).T
    out = np.zeros(SIZE + count * HOP + 3 * SIZE)
    add_pulses(out[SIZE:], response * np.sqrt(share), phase(parameters.turns, parameters.bends))
    hiss = np.tile(frame_noise(), count // SUB) if noise is None else noise
    add_noise(out[SIZE - HOP // 2 :], response * np.sqrt(1 - share), hiss)
    return out[SIZE : SIZE + count * HOP].astype(np.float32)


def add_pulses(out: np.ndarray, response: np.ndarray, turned: np.ndarray) -> None:
    """A pulse where the phase (n,) is whole, through the filters (t, SIZE / 2 + 1) interpolated at its time."""
    times, periods = pulses(turned)
    whole, place = np.floor(times).astype(int), times / HOP - 0.5
    low = np.clip(np.floor(place).astype(int), 0, len(response) - 1)
    high, mix = np.minimum(low + 1, len(response) - 1), np.clip(place - low, 0, 1)[:, None]
    late = np.exp(-2j * np.pi * np.fft.rfftfreq(SIZE) * (times - whole)[:, None])  # parts of a sample
    spectra = (response[low] * (1 - mix) + response[high] * mix) * late * np.sqrt(periods)[:, None]
    for start, kernel in zip(whole, np.fft.irfft(spectra, axis=1), strict=True):
        out[start : start + SIZE] += kernel


def add_noise(out: np.ndarray, response: np.ndarray, hiss: np.ndarray) -> None:
    """Overlapping grains of noise (HOP t,), each through its own filter; `out` begins half a part before the noise."""
    window = np.hanning(2 * HOP + 1)[:-1]
    padded = np.pad(hiss, (HOP // 2, 2 * HOP))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP][: len(response)]
    long = np.fft.rfft(np.fft.irfft(response, axis=1), 2 * SIZE, axis=1)  # room for a grain and its echo
    grains = np.fft.irfft(np.fft.rfft(pieces * window, 2 * SIZE) * long, axis=1)
    for place, grain in enumerate(grains):
        out[place * HOP : place * HOP + 2 * SIZE] += grain
