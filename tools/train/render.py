"""Stage `render`: the first utterances as the codec is to say them (vocoder.py), in one shift each, with their frames'
vectors.

work/render (growing.py) holds audio.i16 (24 kHz) and vectors.f16 (features.WIDTH values a frame). The originals stay
where they are: what the encoder listens to is resampled from them crop by crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soxr
import torch
from torch import Tensor

from tools.train.data import Corpus
from tools.train.features import WIDTH, Parameters, at_times, vectors, voicing
from tools.train.flite import RATE as SOURCE_RATE
from tools.train.growing import Column, Growing, read_index
from tools.train.training import stacked
from tools.train.vocoder import FRAME, HOP, RATE, speech

if TYPE_CHECKING:
    from tools.train.codebooks import Codebooks

LEVEL = 0.07  # RMS of every utterance
WARM_UP = 2  # frames at a crop's beginning that do not count in training: their past was cut off


@dataclass
class Rendering:
    """One utterance: its speaker's shift, seconds of silence before it, first frame in the files, number of frames."""

    number: int
    shift: float
    onset: float
    start: int
    frames: int


def shifted(samples: np.ndarray, shift: float) -> np.ndarray:
    """16 kHz -> 24 kHz with pitch and formants times `shift`, and as much faster."""
    return soxr.resample(samples, SOURCE_RATE * shift, RATE, quality="MQ")


def gain(wave: np.ndarray) -> float:
    """What brings an utterance (n,) to LEVEL."""
    return LEVEL / max(1e-3, float(np.sqrt(np.mean(wave**2))))


def frames_of(seconds: float) -> int:
    """Frames of an utterance of that length, the last one silent."""
    return int(np.ceil(seconds * RATE / FRAME)) + 1


def hop_times(frames: int, before: float) -> np.ndarray:
    """Middles (16 frames,) of all hops in seconds, counted from `before` seconds after the beginning."""
    return (np.arange(frames * FRAME // HOP) + 0.5) * HOP / RATE - before


def parameters(samples: np.ndarray, track: np.ndarray, shift: float, before: float, frames: int) -> Parameters:
    """Of an utterance (n,) at 16 kHz with its track: those of all hops of that many frames, after `before` seconds."""
    return at_times(track, gain(samples) / 32768, hop_times(frames, before), shift)


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Render utterance after utterance, going on where an interruption stopped."""
    corpus = Corpus(work / "data", cfg.data.validation_every)
    columns = Column("audio.i16", np.int16, FRAME), Column("vectors.f16", np.float16, WIDTH)
    with Growing(work / "render", "frames", *columns) as files:
        for number in range(files.count, min(cfg.codec.rendered, len(corpus.entries))):
            rng = np.random.default_rng([cfg.codec.seed, number])
            shift = 1.0 if rng.random() < cfg.codec.unshifted else float(rng.uniform(*cfg.codec.shifts))
            onset = float(rng.uniform(0, FRAME / RATE))
            before = onset + cfg.codec.lag
            frames = frames_of(corpus.entries[number].samples / SOURCE_RATE / shift + before)
            found = parameters(corpus.samples(number), corpus.track(number), shift, before, frames)
            wave = speech(found.spectrum(shift), found.voiced, found.strengths, found.turns, shift)
            record = vars(Rendering(number, shift, onset, 0, frames))
            files.add(record, (wave * 32767).clip(-32768, 32767), vectors(found, shift))


class Crop(NamedTuple):
    """original and wanted (n,) at 24 kHz, vectors (n / 1920, WIDTH), rows (n / 1920,) in the folder's files, whether
    it begins with its utterance."""

    original: np.ndarray
    wanted: np.ndarray
    vectors: np.ndarray
    rows: np.ndarray
    begins: bool


class Renderings:
    """The folder for reading; `train` and `validation` are lists of positions in it."""

    def __init__(self, work: Path, validation_every: int) -> None:
        folder = work / "render"
        self.corpus = Corpus(work / "data", validation_every)
        self.entries = [Rendering(**record) for record in read_index(folder)]
        self.audio = np.memmap(folder / "audio.i16", np.int16, "r")
        self.vectors = np.memmap(folder / "vectors.f16", np.float16, "r")
        self.frames = self.entries[-1].start + self.entries[-1].frames
        self.vectors = self.vectors[: self.frames * WIDTH].reshape(-1, WIDTH)
        self.train = [i for i, e in enumerate(self.entries) if e.number % validation_every]
        self.validation = [i for i, e in enumerate(self.entries) if e.number % validation_every == 0]

    def crop(self, position: int, first: int, frames: int) -> Crop:
        """Frames [first, first + frames) of an utterance; silence beyond its end."""
        entry = self.entries[position]
        stop = min(first + frames, entry.frames)
        rows = np.minimum(np.arange(first, first + frames), entry.frames - 1) + entry.start
        wanted = self.audio[(entry.start + first) * FRAME : (entry.start + stop) * FRAME].astype(np.float32) / 32768
        wanted = np.pad(wanted, (0, frames * FRAME - len(wanted)))
        start = round((first * FRAME / RATE - entry.onset) * entry.shift * SOURCE_RATE)
        needed = int(np.ceil((frames * FRAME / RATE + 0.02) * entry.shift * SOURCE_RATE))
        original = shifted(self.corpus.samples(entry.number, start, needed), entry.shift)[: frames * FRAME]
        original = original * gain(self.corpus.samples(entry.number))
        return Crop(original, wanted, self.vectors[rows].astype(np.float32), rows, first == 0)

    def codes(self, crops: list[Crop], books: Codebooks) -> Tensor:
        """(B, T, Q)."""
        return books.codes(books.components(stacked([c.vectors for c in crops])))

    def tonal(self, crops: list[Crop]) -> Tensor:
        """(B, T HOPS): where phases count."""
        return torch.from_numpy(np.stack([voicing(c.vectors).max(1) > 0.2 for c in crops])).float()

    def scale(self, books: Codebooks) -> float:
        """RMS of components."""
        return float(books.components(stacked(list(self.vectors[:4000]))).square().mean().sqrt())

    def draw(self, positions: list[int], frames: int, rng: np.random.Generator) -> Crop:
        """A random crop; every fourth begins with its utterance, as a codec always does."""
        position = positions[rng.integers(len(positions))]
        spare = self.entries[position].frames - frames
        first = 0 if spare <= 0 or rng.random() < 0.25 else int(rng.integers(spare + 1))
        return self.crop(position, first, frames)
