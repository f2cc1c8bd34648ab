"""Two waveforms, sample by sample in step: how far is one from the other? No alignment, so: teacher-forced only."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sopro_np.errors import UsageError

FFT = 1024
HOP = 256
FLOOR_DB = -80.0  # below the reference's loudest bin: what lies lower is silence, and silence equals silence


def snr(reference: np.ndarray, actual: np.ndarray) -> float:
    """10 log10(sum r^2 / sum (r - a)^2) in dB; inf if equal, nan if the reference is silent and the other is not."""
    r, a = _pair(reference, actual)
    noise, signal = float(np.square(r - a).sum()), float(np.square(r).sum())
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal > 0 else float("nan")


def mean_db(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Average of SNRs by their noise power: one silent script must not decide, as it would among decibels."""
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(np.average(10 ** (-np.asarray(values) / 10), weights=weights)))


def spectrogram(wav: np.ndarray, fft: int = FFT, hop: int = HOP) -> np.ndarray:
    """Magnitudes |STFT|, Hann window, of a wav (n,) padded with zeros to whole windows -> (T, fft/2 + 1) float64."""
    wav = np.asarray(wav, np.float64)
    frames = max(1, -(-max(0, len(wav) - fft) // hop) + 1)
    padded = np.zeros((frames - 1) * hop + fft)
    padded[: len(wav)] = wav
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    return np.abs(np.fft.rfft(sliding_window_view(padded, fft)[::hop] * window))


def log_spectral_distance(reference: np.ndarray, actual: np.ndarray) -> float:
    """Mean over frames of the root mean square over bins of 20 log10(|R| / |A|), in dB.

    Gray & Markel 1976. Bins below FLOOR_DB relative to the reference's loudest one are lifted to it in both.
    """
    r, a = (spectrogram(w) for w in _pair(reference, actual))
    floor = max(float(r.max()), 1e-30) * 10 ** (FLOOR_DB / 20)
    difference = 20 * np.log10(np.maximum(r, floor) / np.maximum(a, floor))
    return float(np.sqrt(np.square(difference).mean(axis=1)).mean())


def _pair(reference: np.ndarray, actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r, a = np.asarray(reference, np.float64), np.asarray(actual, np.float64)
    if r.shape != a.shape:
        raise UsageError(f"arrays of shapes {r.shape} and {a.shape} cannot be compared element by element")
    return r, a
