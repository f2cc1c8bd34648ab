"""Further speakers of one teacher's parameters: pitch and formants scaled, each by a factor of its own.

A speaker says every text with the same durations, so that what is learnt of one is learnt of all.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from tools.train.taught.analysis import SIZE, band_shares, points
from tools.train.taught.teach import Taught
from tools.train.vocoder import RATE


class Speaker(NamedTuple):
    """Factors of pitch and of the frequencies of an envelope; 1 and 1 are the teacher's own voice."""

    pitch: float = 1.0
    formants: float = 1.0


@cache
def moved(formants: float) -> tuple[np.ndarray, np.ndarray]:
    """(POINTS, POINTS) and (BANDS, BANDS): levels and voicing of an envelope stretched by a factor."""
    levels = np.array([np.interp(points() / formants, points(), row) for row in np.eye(len(points()))])
    f = np.fft.rfftfreq(SIZE, 1 / RATE)
    own, other = band_shares(f), band_shares(f / formants)
    return levels, other.T @ own / own.sum(0)


def said_by(lesson: Taught, speaker: Speaker) -> Taught:
    """A lesson in a speaker's voice."""
    if speaker == Speaker():
        return lesson
    levels, voicing = moved(speaker.formants)
    return Taught(
        lesson.levels @ levels, lesson.voicing @ voicing, lesson.pitch * speaker.pitch, lesson.symbols, lesson.durations
    )


def speaker_of(number: int, cfg: SimpleNamespace) -> int:
    """Which of cfg.speakers, rows of pitch, formants and share, says an utterance: a function of (cfg.seed, number)."""
    shares = np.cumsum([share for _, _, share in cfg.speakers])
    drawn = np.random.default_rng([cfg.seed, number]).random() * shares[-1]
    return int(np.searchsorted(shares, drawn, side="right"))


def speakers(cfg: SimpleNamespace) -> list[Speaker]:
    """The configured ones, in their order."""
    return [Speaker(float(pitch), float(formants)) for pitch, formants, _ in cfg.speakers]
