"""A parametric voice: what the codec is taught to say, as a function of one frame's parameters and the one before.

A codec of few codes cannot know where the original's pulses are, nor what its noise was; a decoder without noise of
its own can only say one thing for one row of codes. So it is taught speech that is *determined* by what codes can
carry, a source and a filter (Fant 1960; mixed excitation as in MELP) in step with the codec's frames of 80 ms:

* every frame holds a whole number of pitch periods, so the phase is 0 where a frame begins, and the pitch is within
  6 Hz of the true one; within a frame it glides from the frame before to its own (`turns_within`);
* the noise is the same 80 ms in every frame;
* the filter has minimum phase, so that it follows from the envelope.

An envelope is a log amplitude at SIZE / 2 + 1 frequencies, every 5 ms. Sounds of a shifted speaker are computed at the
shifted frequencies, without resampling.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tools.train.flite import RATE as SOURCE_RATE

RATE = 24000
FRAME = 1920  # samples, 80 ms
HOP = 120  # samples between parameters, 5 ms
HOPS = FRAME // HOP
SIZE = 512  # samples of an impulse response, 21 ms: speech's filters have died away
ALPHA = 0.42  # bilinear warping of flite's mel-cepstra at 16 kHz
TONAL = 1.7  # times a band's strength of voicing is its share of pulses: a decoder learns pulses, noise it only copies
BAND_EDGES = (0, 1000, 2000, 4000, 6000, 8000)  # Hz, of flite's strengths of voicing


@cache
def cepstrum_basis(order: int, shift: float) -> np.ndarray:
    """(order, SIZE / 2 + 1) complex: mel-cepstrum of the unshifted 16 kHz voice -> log spectrum at 24 kHz."""
    omega = 2 * np.pi * np.fft.rfftfreq(SIZE, 1 / RATE) / (SOURCE_RATE * shift)
    omega = np.minimum(omega, np.pi)
    warped = omega + 2 * np.arctan2(ALPHA * np.sin(omega), 1 - ALPHA * np.cos(omega))
    return np.exp(-1j * np.arange(order)[:, None] * warped).astype(np.complex64)


@cache
def passed(shift: float) -> np.ndarray:
    """Gain (SIZE / 2 + 1,) that ends the spectrum where the source's ends."""
    top = SOURCE_RATE / 2 * shift
    return np.clip((top - np.fft.rfftfreq(SIZE, 1 / RATE)) / 200, 0, 1).astype(np.float32)


@cache
def band_weights(shift: float) -> np.ndarray:
    """(5, SIZE / 2 + 1): shares of the bands of voicing at each frequency, with 200 Hz of overlap."""
    f = np.fft.rfftfreq(SIZE, 1 / RATE) / shift
    rise = [np.ones_like(f)] + [np.clip((f - edge) / 200 + 0.5, 0, 1) for edge in BAND_EDGES[1:-1]]
    return np.array([a - b for a, b in zip(rise, [*rise[1:], np.zeros_like(f)], strict=True)], np.float32)


@cache
def frame_noise() -> np.ndarray:
    """(FRAME,) noise with a flat spectrum, variance 1: the same in every frame."""
    half = FRAME // 2
    angles = np.random.default_rng(80).uniform(0, 2 * np.pi, half + 1)
    spectrum = np.exp(1j * angles) * np.sqrt(FRAME)
    spectrum[[0, half]] = spectrum[[0, half]].real
    return np.fft.irfft(spectrum).astype(np.float32)


def turns_within(turns: np.ndarray) -> np.ndarray:
    """Periods per frame (T,) -> the phase in turns at every sample (T * FRAME,), whole at the beginnings of frames.

    The pitch starts at the frame before's and ends at the frame's own, as a parabola with the frame's own mean; it
    depends on these two only, so a decoder needs no look ahead. (A fall to a quarter would make it run backwards.)
    """
    turns = np.asarray(turns, float)
    before = np.concatenate((turns[:1], turns[:-1]))[:, None]
    now, u = turns[:, None], np.arange(FRAME) / FRAME
    bend = (now - before) / 2
    phase = before * (u - u**2 / 2) + now * u**2 / 2 + 6 * bend * (u**2 / 2 - u**3 / 3)
    return (np.concatenate(([0.0], np.cumsum(turns)[:-1]))[:, None] + phase).ravel()


def pulses(phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a rising phase passes whole numbers: times in samples, and the periods that follow them."""
    whole = np.arange(np.ceil(phase[0]), np.floor(phase[-1]) + 1)
    times = np.interp(whole, phase, np.arange(len(phase)))
    periods = np.diff(times, append=2 * times[-1] - times[-2] if len(times) > 1 else times + 200)
    return times, periods


def speech(
    spectrum: np.ndarray, voiced: np.ndarray, strengths: np.ndarray, turns: np.ndarray, shift: float
) -> np.ndarray:
    """Waveform of parameters every 5 ms, (HOP t,) samples; t a multiple of HOPS.

    spectrum (t, SIZE / 2 + 1) complex log spectra of minimum phase; voiced (t,) 0 to 1; strengths (t, 5): how much of
    each band is voiced; turns (t / HOPS,).
    """
    count = len(spectrum) * HOP
    response = np.exp(spectrum) * passed(shift)
    tonal = (np.minimum(1, TONAL * strengths) * voiced[:, None]) @ band_weights(shift)
    out = np.zeros(count + 2 * SIZE, np.float32)
    times, periods = pulses(turns_within(turns))
    whole = times.astype(int)
    at = np.minimum(whole // HOP, len(spectrum) - 1)
    late = np.exp(-2j * np.pi * np.fft.rfftfreq(SIZE) * (times - whole)[:, None])
    kernels = np.fft.irfft(response[at] * tonal[at] * late * np.sqrt(periods)[:, None], axis=1)
    for position, kernel in zip(whole, kernels.astype(np.float32), strict=True):
        out[position : position + SIZE] += kernel
    window = np.hanning(2 * HOP + 1)[:-1]
    hiss = np.pad(np.tile(frame_noise(), len(turns)), HOP)
    pieces = np.lib.stride_tricks.sliding_window_view(hiss, 2 * HOP)[::HOP][: len(spectrum)]
    noise = np.fft.rfft(pieces * window, SIZE)
    grains = np.fft.irfft(noise * response * (1 - tonal), axis=1).astype(np.float32)
    for t, grain in enumerate(grains):
        start = max(0, (t - 1) * HOP)
        grain = grain[start - (t - 1) * HOP :]
        out[start : start + len(grain)] += grain
    return out[:count]
