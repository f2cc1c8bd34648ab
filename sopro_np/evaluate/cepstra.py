"""Mel-cepstra and the distance between them (MCD), with every number that enters the definition in one record.

    MCD = 10/ln 10 * sqrt(2 sum_{d=1..D} (c_d - c'_d)^2), in dB, mean over frames; c_0, the loudness, is left out

(Kubichek 1993). Mel-cepstra are those of SPTK: the cepstrum of a spectral envelope, its frequency axis bent by an
all-pass of coefficient alpha (Tokuda et al. 1994; the recursion is Oppenheim & Johnson's 1972). An MCD of MFCCs, of
another order or alpha, is another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from sopro_np.errors import UsageError

DB = 10 / np.log(10)


@dataclass(frozen=True)
class Definition:
    """What an MCD is made of. order D, without c_0; alpha of the all-pass; frame shift in ms; FFT of the envelope."""

    order: int
    alpha: float
    shift_ms: float
    fft: int

    def __str__(self) -> str:
        return (
            f"MCD: 10/ln10 sqrt(2 sum (c-c')^2), c_1..c_{self.order} of mel-cepstra (alpha {self.alpha:g}, "
            f"WORLD envelope, FFT {self.fft}, shift {self.shift_ms:g} ms), c_0 left out"
        )


def definition(rate: int) -> Definition:
    """For a sample rate in Hz: order 24, shift 5 ms, the customary alpha (0.41 at 16 kHz, 0.466 at 24 kHz)."""
    return Definition(24, alpha_for(rate), 5.0, 1024 if rate <= 24000 else 2048)


@cache
def alpha_for(rate: int) -> float:
    """The all-pass coefficient whose bent frequency axis comes closest to the mel scale (1000 Hz form), 3 digits."""
    omega = np.linspace(0, np.pi, 1000)[1:-1]
    mel = np.log1p(omega / np.pi * rate / 2 / 1000)
    mel *= np.pi / np.log1p(rate / 2 / 1000)
    alphas = np.arange(0, 0.9, 0.001)[:, None]
    bent = omega + 2 * np.arctan(alphas * np.sin(omega) / (1 - alphas * np.cos(omega)))
    return round(float(alphas[np.square(bent - mel).sum(axis=1).argmin(), 0]), 3)


@cache
def all_pass_matrix(inputs: int, order: int, alpha: float) -> np.ndarray:
    """(order + 1, inputs): cepstrum c_0..c_{inputs-1} -> cepstrum on the bent axis. SPTK's `freqt`, of unit vectors."""
    g = np.zeros((order + 1, inputs))
    for n in range(inputs - 1, -1, -1):
        d = g.copy()
        g[0] = alpha * d[0]
        g[0, n] += 1
        if order:
            g[1] = (1 - alpha * alpha) * d[0] + alpha * d[1]
        for m in range(2, order + 1):
            g[m] = d[m - 1] + alpha * (d[m] - g[m - 1])
    return g


def mel_cepstra(power: np.ndarray, order: int, alpha: float) -> np.ndarray:
    """Power spectra |H|^2 (T, fft/2 + 1), all > 0 -> mel-cepstra (T, order + 1). SPTK's `sp2mc`."""
    cepstra = np.fft.irfft(np.log(power))[:, : power.shape[1]]
    cepstra[:, 0] /= 2
    return cepstra @ all_pass_matrix(power.shape[1], order, alpha).T


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mel-cepstra (T, D + 1) in step -> MCD of every frame (T,) in dB."""
    if a.shape != b.shape:
        raise UsageError(f"mel-cepstra of shapes {a.shape} and {b.shape} are not in step: align them first")
    return DB * np.sqrt(2 * np.square(a[:, 1:] - b[:, 1:]).sum(axis=1))


def mcd(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of `distances` in dB; nan without frames."""
    return float(distances(a, b).mean()) if len(a) else float("nan")
