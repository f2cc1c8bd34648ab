"""Joining sentences: fades, so that none begins or ends with a step, and gains, so that all are about as loud.

Everything is a function of the samples alone, in whole numbers where sums are taken: the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np

FADE_SECONDS = 0.016  # a raised cosine; it leaves less than 0.01 of anything in its first millisecond
MOST_GAIN = 10 ** (3 / 20)  # 3 dB
LOUD_PART = 100  # speech: what lies within 20 dB (in power) of the loudest frame


def fade_curve(sample_rate: int) -> np.ndarray:
    """(n,) float32 weights that rise from 0 to 1."""
    n = max(1, round(FADE_SECONDS * sample_rate))
    step, term, power = 0.0, 1.0, 0  # cos(pi / n) by its series, then a recurrence: libraries differ in last bits
    while abs(term) > 1e-18:
        step, power = step + term, power + 2
        term *= -((math.pi / n) ** 2) / (power * (power - 1))
    cosines = [1.0, step]
    while len(cosines) < n:
        cosines.append(2 * step * cosines[-1] - cosines[-2])
    return np.array([0.5 - 0.5 * c for c in cosines[:n]], np.float32)


class Fade:
    """Chunks of one sentence -> the same samples, faded in and out; the end is held back until it is known to be it."""

    def __init__(self, sample_rate: int) -> None:
        self._curve = fade_curve(sample_rate)
        self._at = 0  # samples that came
        self._held = np.zeros(0, np.float32)

    def push(self, wav: np.ndarray) -> np.ndarray:
        """What may be heard after these samples (n,) came."""
        n = len(self._curve)
        if self._at < n:
            wav = wav.copy()
            part = self._curve[self._at : self._at + len(wav)]
            wav[: len(part)] *= part
        self._at += len(wav)
        ready = np.concatenate([self._held, wav])
        cut = max(0, len(ready) - n)
        self._held = ready[cut:].copy()  # not the rest with it
        return ready[:cut]

    def end(self) -> np.ndarray:
        """The rest, faded out."""
        held, self._held = self._held, np.zeros(0, np.float32)
        return held * self._curve[::-1][len(self._curve) - len(held) :]


class Level:
    """Loudness of what is speech in a sentence: mean square over its loud frames, from 16-bit integers."""

    def __init__(self, hop: int) -> None:
        self._hop = hop
        self._rest = np.zeros(0, np.int64)
        self._powers: list[int] = []  # of frames, in units of 2**-30

    def push(self, wav: np.ndarray) -> None:
        """Samples (n,) in [-1, 1] that follow."""
        whole = np.concatenate([self._rest, np.rint(wav * np.float32(32767)).astype(np.int64)])
        frames = len(whole) // self._hop
        self._rest = whole[frames * self._hop :].copy()
        self._powers += [int(p) for p in np.square(whole[: frames * self._hop]).reshape(frames, -1).sum(axis=1)]

    @property
    def power(self) -> float:
        """Mean over the loud frames; 0 if there is no sound."""
        loud = [p for p in self._powers if p * LOUD_PART >= max(self._powers) > 0]
        return sum(loud) / len(loud) if loud else 0.0


def level_of(wav: np.ndarray, hop: int) -> float:
    """Level of a whole sentence (n,)."""
    level = Level(hop)
    level.push(wav)
    return level.power


def matching_gain(power: float, wanted: float) -> np.float32:
    """Factor that brings a sentence to the level wanted, within 3 dB either way; 1 where either is silent."""
    if power <= 0 or wanted <= 0:
        return np.float32(1)
    return np.float32(min(max((wanted / power) ** 0.5, 1 / MOST_GAIN), MOST_GAIN))
