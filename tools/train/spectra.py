"""Spectral losses and features. Waveforms are (B, n) at 24 kHz; levels are relative to an amplitude of 1."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RATE = 24000
FLOOR = 3e-4  # amplitude below which a spectrum counts as silent; speech here has an RMS of about 0.07


@cache
def mel_matrix(size: int, bands: int, low: float = 60.0, high: float = 9000.0) -> Tensor:
    """(size/2 + 1, bands) triangles of unit sum, equally spaced on the mel scale 2595 log10(1 + f/700)."""
    points = np.linspace(*(2595 * np.log10(1 + f / 700) for f in (low, high)), bands + 2)
    edges = 700 * (10 ** (points / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / RATE)[:, None]
    up = (bins - edges[:-2]) / np.diff(edges)[:-1]
    down = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.maximum(0, np.minimum(up, down))
    narrow = np.abs(bins - edges[1:-1]).argmin(0)  # a band between two bins takes the nearest one
    empty = triangles.sum(0) < 1e-6
    triangles[narrow[empty], np.nonzero(empty)[0]] = 1
    return torch.from_numpy((triangles / triangles.sum(0)).astype(np.float32))


def mel_frames(wave: Tensor, bands: int = 80, hop: int = 240) -> Tensor:
    """Log-mel spectrum of 10 ms frames, one centred in each hop: (B, n) -> (B, n / hop, bands)."""
    half = 384
    framed = F.pad(wave, (half - hop // 2, half)).unfold(1, 2 * half, hop)[:, : wave.shape[1] // hop]
    power = torch.fft.rfft(framed * torch.hann_window(2 * half)).abs().square() / (0.375 * 2 * half)
    return 0.5 * torch.log(power @ mel_matrix(2 * half, bands) + FLOOR**2)


class _LogDistance(torch.autograd.Function):
    """Mean |log amplitude - wanted| of a complex spectrum, with its gradient found on the way forward."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, wanted: Tensor, floor: float) -> Tensor:
        power = spectrum.real.square() + spectrum.imag.square() + floor
        difference = torch.log(power).mul_(0.5).sub_(wanted)
        ctx.save_for_backward(spectrum * (difference.sign() / power.mul_(wanted.numel())))
        return difference.abs_().mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * gradient, None, None


def spectrum(wave: Tensor, size: int) -> Tensor:
    """(B, n) -> (B, frames, bins) complex, Hann windows a quarter apart, up to 9.5 kHz: the sources have 8."""
    hops = wave[:, : wave.shape[1] // (size // 4) * (size // 4)].unflatten(1, (-1, size // 4))
    frames = torch.cat([hops[:, i : hops.shape[1] - 3 + i] for i in range(4)], 2) * torch.hann_window(size)
    return torch.fft.rfft(frames)[..., : size * 9500 // RATE]


def spectral_loss(wave: Tensor, target: Tensor, size: int, quiet: float = FLOOR) -> tuple[Tensor, Tensor]:
    """Mean absolute differences of log spectra, by bin and by mel band: (B, n) twice -> two scalars.

    One resolution only: the caller draws another window size for every step. What is below the amplitude `quiet`
    counts little: silence is the hardest to learn, and nobody hears it.
    """
    floor = quiet**2 * 0.375 * size  # of a Hann window's energy
    given = spectrum(wave, size)
    matrix = mel_matrix(size, max(20, min(80, size // 12)))[: given.shape[-1]]
    with torch.no_grad():
        power = spectrum(target, size).abs().square_()
        wanted, wanted_mel = 0.5 * torch.log(power + floor), 0.5 * torch.log(power @ matrix + floor)
    bands = (given.real.square() + given.imag.square()) @ matrix
    mel = (0.5 * torch.log(bands + floor) - wanted_mel).abs().mean()
    return _LogDistance.apply(given, wanted, floor), mel
