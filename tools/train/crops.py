"""Training crops at 24 kHz with their phones and pitch, shifted in pitch and formants by resampling."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.train.data import Corpus
from tools.train.flite import PITCH_HOP
from tools.train.flite import RATE as SOURCE_RATE

RATE = 24000
PHONE_HOP = 480  # 20 ms
LEVEL = 0.07  # RMS of every utterance
# Flite's US English phones; silence first.
_PHONES = """
pau aa ae ah ao aw ax axr ay b ch d dh eh el em en er ey f g hh hv ih iy jh k l m n nx ng ow oy p r s sh t th uh uw v w
y z zh ssil brth
"""
PHONES = _PHONES.split()
PHONE_IDS = {name: i for i, name in enumerate(PHONES)}


class Crops(NamedTuple):
    """wave (B, n); phones (B, n / 480) ids; pitch (B, n / 240) in Hz, 0 = unvoiced."""

    wave: Tensor
    phones: Tensor
    pitch: Tensor


def shifted(samples: np.ndarray, shift: float) -> np.ndarray:
    """16 kHz -> 24 kHz with pitch and formants times `shift`, and as much faster."""
    return soxr.resample(samples, SOURCE_RATE * shift, RATE, quality="MQ")


def gain(wave: np.ndarray) -> float:
    """What brings an utterance (n,) to LEVEL."""
    return LEVEL / max(1e-3, float(np.sqrt(np.mean(wave**2))))


def crop(corpus: Corpus, number: int, start: int, length: int, shift: float) -> tuple[np.ndarray, ...]:
    """One crop of `length` samples (24 kHz) that begins at sample `start` (16 kHz) of an utterance."""
    entry = corpus.entries[number]
    needed = int(np.ceil(length / RATE * shift * SOURCE_RATE / PITCH_HOP) + 2) * PITCH_HOP
    wave = shifted(corpus.samples(number, start, needed), shift)[:length]
    wave = wave * gain(corpus.samples(number))
    seconds = (np.arange(length // PHONE_HOP) + 0.5) * PHONE_HOP / RATE * shift + start / SOURCE_RATE
    phones = entry.phone_at(seconds, PHONE_IDS)
    at = ((np.arange(length // 240) + 0.5) * 240 / RATE * shift * SOURCE_RATE / PITCH_HOP).astype(int)
    pitch = corpus.pitches(number, start, needed)[at] * shift
    return wave.astype(np.float32), phones, pitch


def draw(corpus: Corpus, numbers: list[int], cfg: SimpleNamespace, rng: np.random.Generator, batch: int) -> Crops:
    """A random batch; every fourth crop begins with its utterance, as a decoder always does."""
    length = round(cfg.seconds * RATE / 1920) * 1920
    items = []
    for _ in range(batch):
        number = numbers[rng.integers(len(numbers))]
        shift = 1.0 if rng.random() < cfg.unshifted else float(rng.uniform(*cfg.shifts))
        spare = corpus.entries[number].samples - int(length * shift * SOURCE_RATE / RATE)
        first = rng.random() < 0.25 or spare <= 0
        start = 0 if first else int(rng.integers(spare // PITCH_HOP + 1)) * PITCH_HOP
        items.append(crop(corpus, number, start, length, shift))
    wave, phones, pitch = (np.stack(parts) for parts in zip(*items, strict=True))
    return Crops(torch.from_numpy(wave), torch.from_numpy(phones).long(), torch.from_numpy(pitch))


def delayed(crops: Crops, samples: int) -> Crops:
    """What a decoder is to say if it lags behind by so many samples (a multiple of 480): silence first."""
    wave, phones, pitch = (
        F.pad(part, (samples // hop, 0))[:, : part.shape[1]]
        for part, hop in zip(crops, (1, PHONE_HOP, 240), strict=True)
    )
    return Crops(wave, phones, pitch)
