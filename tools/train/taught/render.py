"""Stages `taught-render` and `taught-decoder`: what codes are to say, as waveforms, and a decoder that learns it.

What is rendered is what the codes say (codebooks.py: `said`), gains and all, not the lesson they came from: so that
what is to be learnt is a function of the codes, and no decoder has to find the mean of what they might have meant.

work/render (growing.py) holds audio.i16 (24 kHz), codes.u16, and tonal.u8 (HOPS values a frame).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tools.train.codebooks import Codebooks
from tools.train.decoder import DecoderTrainer
from tools.train.growing import Column, Growing, read_index
from tools.train.taught.analysis import SUB
from tools.train.taught.features import heard, parameters, vectors
from tools.train.taught.speakers import said_by, speaker_of, speakers
from tools.train.taught.teach import Lessons
from tools.train.taught.voice import speech
from tools.train.vocoder import FRAME, HOPS

GAIN = 1.2  # what codes say of the teacher has an RMS of 0.06; so the decoder says the parent's 0.07
SUNG = 0.2  # voicing of the lowest band from which phases count


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Render the first lessons, going on where an interruption stopped."""
    torch.set_num_threads(cfg.codec.threads)
    books, lessons, people = Codebooks.load(work), Lessons(work / "teacher" / "heart"), speakers(cfg)
    source = hashlib.sha256((work / "codebooks.npz").read_bytes() + repr((cfg.seed, cfg.speakers)).encode()).hexdigest()
    columns = (
        Column("audio.i16", np.int16, FRAME),
        Column("codes.u16", np.uint16, len(books.books)),
        Column("tonal.u8", np.uint8, HOPS),
    )
    with Growing(work / "render", "frames", *columns, source=source) as files:
        for number in range(files.count, min(cfg.codec.rendered, len(lessons))):
            lesson, who = lessons[number], speaker_of(number, cfg)
            record = {"number": number, "speaker": who, "frames": lesson.frames}
            if not lesson.frames:
                files.add(record, *(np.zeros(0) for _ in columns))
                continue
            x = books.components(torch.from_numpy(vectors(parameters(said_by(lesson, people[who])))))
            codes = books.codes(x)
            said = heard(books.said(codes).numpy())
            wave = speech(said) * (GAIN * 32767)
            tonal = np.repeat(said.voicing[:, 0] > SUNG, HOPS // SUB)
            files.add(record, wave.clip(-32768, 32767), codes.numpy(), tonal)


class Crop(NamedTuple):
    """wanted (n,) at 24 kHz, codes (n / FRAME, Q), tonal (n / HOP,), rows (n / FRAME,) in the folder's files."""

    wanted: np.ndarray
    codes: np.ndarray
    tonal: np.ndarray
    rows: np.ndarray


class Renderings:
    """The folder for reading; `train` and `validation` are lists of positions in it."""

    def __init__(self, work: Path, validation_every: int, books: int) -> None:
        folder = work / "render"
        self.entries = read_index(folder)
        self.frames = self.entries[-1]["start"] + self.entries[-1]["frames"]
        self.audio = np.memmap(folder / "audio.i16", np.int16, "r")
        self.rows, self.sung = (
            np.memmap(folder / name, kind, "r")[: self.frames * width].reshape(self.frames, width)
            for name, kind, width in (("codes.u16", np.uint16, books), ("tonal.u8", np.uint8, HOPS))
        )
        said = [i for i, e in enumerate(self.entries) if e["frames"]]
        self.train = [i for i in said if self.entries[i]["number"] % validation_every]
        self.validation = [i for i in said if self.entries[i]["number"] % validation_every == 0]

    def draw(self, positions: list[int], frames: int, rng: np.random.Generator) -> Crop:
        """A random crop; every fourth begins with its utterance. Beyond an end its last frame goes on, unheard."""
        entry = self.entries[positions[rng.integers(len(positions))]]
        spare = entry["frames"] - frames
        first = 0 if spare <= 0 or rng.random() < 0.25 else int(rng.integers(spare + 1))
        stop = min(first + frames, entry["frames"])
        rows = np.minimum(np.arange(first, first + frames), entry["frames"] - 1) + entry["start"]
        wanted = self.audio[(entry["start"] + first) * FRAME : (entry["start"] + stop) * FRAME]
        wanted = np.pad(wanted.astype(np.float32) / 32768, (0, (frames - (stop - first)) * FRAME))
        return Crop(wanted, self.rows[rows].astype(np.int64), self.sung[rows].ravel(), rows)

    def codes(self, crops: list[Crop], books: Codebooks) -> Tensor:
        """(B, T, Q)."""
        return torch.from_numpy(np.stack([c.codes for c in crops]))

    def tonal(self, crops: list[Crop]) -> Tensor:
        """(B, T HOPS): where phases count."""
        return torch.from_numpy(np.stack([c.tonal for c in crops])).float()

    def scale(self, books: Codebooks) -> float:
        """RMS of what codes stand for."""
        codes = torch.from_numpy(self.rows[:4000].astype(np.int64))
        return float(books.rows(codes[None])[1].square().mean().sqrt())


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.decoder.steps; writes weights.pt into work/decoder, or another folder (decoder.folder)."""
    torch.set_num_threads(cfg.codec.threads)
    held = Renderings(work, cfg.data.validation_every, cfg.codec.mimi["num_quantizers"])
    DecoderTrainer(cfg, work, held).run()
