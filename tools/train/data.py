"""Stage `data`: texts spoken by flite, and the reading of what was made.

A corpus folder (growing.py) holds audio.i16 (all utterances one after the other, 16 kHz), track.f16 (flite.Speech's, a
row per 80 samples) and index.jsonl (one line per utterance).
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tools.train.flite import HOP, WIDTH, Speech, speak
from tools.train.growing import Column, Growing, read_index
from tools.train.sentences import sentence


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Fill work/data up to cfg.data.utterances, going on where it stopped."""
    columns = Column("audio.i16", np.int16, 1), Column("track.f16", np.float16, Fraction(WIDTH, HOP))
    with Growing(work / "data", "samples", *columns) as files:
        missing = range(files.count, cfg.data.utterances)
        with ProcessPoolExecutor(cfg.data.processes) as pool:
            for entry, speech in pool.map(partial(utterance, cfg=cfg.data), missing, chunksize=50):
                files.add(vars(entry), speech.samples, speech.track)


def utterance(index: int, cfg: SimpleNamespace) -> tuple[Entry, Speech]:
    """One text, spoken."""
    text, voice = sentence(index, cfg), voice_of(index, cfg)
    speech = aligned(speak(text, voice))
    return Entry(text, voice, 0, len(speech.samples), speech.phones, speech.words), speech


def voice_of(index: int, cfg: SimpleNamespace) -> str:
    """The voice of one utterance, drawn with the configured shares."""
    shares = np.array(list(cfg.voices.values()))
    draw = np.random.default_rng([cfg.seed, index, 1]).random()
    return list(cfg.voices)[int(np.searchsorted(np.cumsum(shares / shares.sum())[:-1], draw, side="right"))]


def aligned(speech: Speech) -> Speech:
    """The same with a whole number of hops."""
    hops = min(len(speech.samples) // HOP, len(speech.track))
    return dataclasses.replace(speech, samples=speech.samples[: hops * HOP], track=speech.track[:hops])


@dataclass
class Entry:
    """One utterance: where its samples lie in audio.i16, its phones and words as [name, end in seconds]."""

    text: str
    voice: str
    start: int
    samples: int
    phones: list
    words: list = field(default_factory=list)

    def phone_at(self, seconds: np.ndarray, table: dict[str, int]) -> np.ndarray:
        """Phone ids at these times; silence (id 0) outside the utterance."""
        ends = np.array([end for _, end in self.phones])
        ids = np.array([table[name] for name, _ in self.phones] + [0])
        return np.where(seconds < 0, 0, ids[np.searchsorted(ends, seconds, side="right")])


class Corpus:
    """A corpus folder for reading; `train` and `validation` are lists of utterance numbers."""

    def __init__(self, folder: Path, validation_every: int) -> None:
        self.entries = [Entry(**record) for record in read_index(folder)]
        self.audio = np.memmap(folder / "audio.i16", np.int16, "r")
        self.tracks = np.memmap(folder / "track.f16", np.float16, "r").reshape(-1, WIDTH)
        numbers = range(len(self.entries))
        self.validation = [i for i in numbers if i % validation_every == 0]
        self.train = [i for i in numbers if i % validation_every]

    def samples(self, number: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Float samples [start, start + length) of an utterance at 16 kHz; zeros outside it."""
        entry = self.entries[number]
        length = entry.samples - start if length is None else length
        low, high = max(start, 0), max(0, min(start + length, entry.samples))
        inside = self.audio[entry.start + low : entry.start + max(low, high)].astype(np.float32) / 32768
        before = min(length, max(0, -start))
        return np.pad(inside, (before, length - before - len(inside)))

    def track(self, number: int) -> np.ndarray:
        """(hops, WIDTH) float: flite.Speech's track of an utterance."""
        entry = self.entries[number]
        return self.tracks[entry.start // HOP : (entry.start + entry.samples) // HOP].astype(np.float32)
