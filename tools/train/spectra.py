"""The decoder's losses. Waveforms are (B, n) at 24 kHz; levels are relative to an amplitude of 1."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from tools.train.mel import spaced
from tools.train.vocoder import HOP, RATE

QUIET = 1e-3, 4e-3  # amplitudes of levels and of single bins below which little counts; speech has an RMS of 0.07


@cache
def mel_matrix(size: int, bands: int, high: float, low: float = 60.0) -> Tensor:
    """(size/2 + 1, bands) triangles of unit sum, equally spaced on the mel scale."""
    edges = spaced(low, high, bands + 2)
    bins = np.fft.rfftfreq(size, 1 / RATE)[:, None]
    up = (bins - edges[:-2]) / np.diff(edges)[:-1]
    down = (edges[2:] - bins) / np.diff(edges)[1:]
    triangles = np.maximum(0, np.minimum(up, down))
    narrow = np.abs(bins - edges[1:-1]).argmin(0)  # a band between two bins takes the nearest one
    empty = triangles.sum(0) < 1e-6
    triangles[narrow[empty], np.nonzero(empty)[0]] = 1
    return torch.from_numpy((triangles / triangles.sum(0)).astype(np.float32))


def spectrum(wave: Tensor, size: int, top: float) -> Tensor:
    """(B, n) -> (B, frames, bins) complex, Hann windows a quarter apart, up to `top` Hz."""
    hops = wave[:, : wave.shape[1] // (size // 4) * (size // 4)].unflatten(1, (-1, size // 4))
    frames = torch.cat([hops[:, i : hops.shape[1] - 3 + i] for i in range(4)], 2) * torch.hann_window(
        size, device=wave.device
    )
    return torch.fft.rfft(frames)[..., : int(size * top) // RATE]


def spectral_loss(wave: Tensor, target: Tensor, tonal: Tensor, size: int, top: float = 9500.0) -> tuple[Tensor, Tensor]:
    """Distances of complex spectra and of log mel bands: waves (B, n), tonal (B, n / HOP) -> two scalars.

    A complex spectrum's error counts in proportion to the level of the target around it (saying nothing costs about
    1), and where speech is tonal: of noise only the level matters. One resolution only: the caller draws another
    window size for every step. Nothing above `top` Hz counts (flite's speech has 8 kHz), and what is below QUIET counts
    little: silence is the hardest to learn, and nobody hears it.
    """
    floor, single = (quiet**2 * 0.375 * size for quiet in QUIET)  # of a Hann window's energy
    given = spectrum(wave, size, top)
    matrix = mel_matrix(size, max(20, min(80, size // 12)), top - 500)[: given.shape[-1]].to(wave.device)
    with torch.no_grad():
        wanted = spectrum(target, size, top)
        levels = wanted.abs().square_() @ matrix + floor
        share = matrix.sum(1)
        weight = (levels @ (matrix / share.clamp_min(1e-9)[:, None]).T + single).rsqrt() * (share > 0)
        wanted_mel = 0.5 * torch.log(levels)
        middles = (torch.arange(given.shape[1], device=wave.device) * (size // 4) + size // 2) // HOP
        counted = tonal[:, middles.clamp_max(tonal.shape[1] - 1)]
    error = torch.view_as_real(given - wanted) * weight[..., None]
    bands = (given.real.square() + given.imag.square()) @ matrix
    mel = (0.5 * torch.log(bands + floor) - wanted_mel).abs().mean()
    complex_ = ((error.square().sum(-1) + 1e-4).sqrt().mean(-1) * counted).sum() / counted.sum().clamp_min(1)
    return complex_, mel
