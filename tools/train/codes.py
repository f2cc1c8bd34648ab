"""Stage `codes`: the corpus as codes, each utterance in one speaker, and the reading of them.

A speaker is a voice and a shift. Codes are those of the true parameters, which the codec's encoder only estimates:
they are a function of the text and the speaker, as far as anything is. work/codes (growing.py) holds codes.u16 and
components.f16 with a row for every frame; it is made anew when the codebooks have changed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tools.train.codebooks import Codebooks
from tools.train.data import Corpus, Entry
from tools.train.features import vectors
from tools.train.flite import RATE as SOURCE_RATE
from tools.train.growing import Column, Growing, read_index
from tools.train.render import frames_of, parameters
from tools.train.vocoder import FRAME, RATE


def shift_of(number: int, cfg: SimpleNamespace) -> float:
    """The shift in which an utterance is learnt, a function of (seed, number)."""
    rng = np.random.default_rng([cfg.seed, number, 2])
    return 1.0 if rng.random() < cfg.unshifted else float(rng.choice(cfg.shifts))


def components_of(books: Codebooks, samples: np.ndarray, track: np.ndarray, shift: float, lag: float) -> torch.Tensor:
    """Components (T, D) of an utterance (n,) at 16 kHz with its track, as the codec's decoder takes them."""
    frames = frames_of(len(samples) / SOURCE_RATE / shift)
    return books.components(torch.from_numpy(vectors(parameters(samples, track, shift, lag, frames), shift)))


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Code every utterance, going on where an interruption stopped."""
    torch.set_num_threads(cfg.codec.threads)
    books, corpus = Codebooks.load(work), Corpus(work / "data", cfg.data.validation_every)
    source = hashlib.sha256((work / "codebooks.npz").read_bytes()).hexdigest()
    columns = (
        Column("codes.u16", np.uint16, len(books.books)),
        Column("components.f16", np.float16, books.basis.shape[1]),
    )
    with Growing(work / "codes", "frames", *columns, source=source) as files:
        for number in range(files.count, len(corpus.entries)):
            shift = shift_of(number, cfg.sopro)
            x = components_of(books, corpus.samples(number), corpus.track(number), shift, cfg.codec.lag)
            files.add({"number": number, "shift": shift, "frames": len(x)}, books.codes(x).numpy(), x.numpy())


class Coded:
    """A coded corpus: texts, codes, speakers, and where in its text each frame is."""

    def __init__(self, work: Path, cfg: SimpleNamespace) -> None:
        self.corpus, self.delay = Corpus(work / "data", cfg.data.validation_every), cfg.codec.lag
        self.entries = read_index(work / "codes")
        self.books = Codebooks.load(work)
        frames = self.entries[-1]["start"] + self.entries[-1]["frames"]
        self.rows, self.vectors = (
            np.memmap(work / "codes" / name, dtype, "r").reshape(frames, -1)
            for name, dtype in (("codes.u16", np.uint16), ("components.f16", np.float16))
        )
        self.train = [i for i in self.corpus.train if i < len(self.entries)]
        self.validation = [i for i in self.corpus.validation if i < len(self.entries)]
        self.speakers: dict[tuple[str, float], list[int]] = {}
        for i in self.train:
            self.speakers.setdefault(self.speaker(i), []).append(i)

    def text(self, number: int) -> str:
        return self.corpus.entries[number].text

    def speaker(self, number: int) -> tuple[str, float]:
        return self.corpus.entries[number].voice, self.entries[number]["shift"]

    def codes(self, number: int) -> torch.Tensor:
        """(T, Q) int64."""
        return torch.from_numpy(self.rows[self._span(number)].astype(np.int64))

    def components(self, number: int) -> torch.Tensor:
        """(T, D) float."""
        return torch.from_numpy(self.vectors[self._span(number)].astype(np.float32))

    def _span(self, number: int) -> slice:
        entry = self.entries[number]
        return slice(entry["start"], entry["start"] + entry["frames"])

    def reference(self, number: int, frames: int, rng: np.random.Generator) -> torch.Tensor:
        """Codes of other utterances of the same speaker, one after the other, (frames, Q)."""
        same = [i for i in self.speakers[self.speaker(number)] if i != number] or [number]
        parts: list[torch.Tensor] = []
        while sum(map(len, parts)) < frames:
            parts.append(self.codes(same[rng.integers(len(same))]))
        return torch.cat(parts)[:frames]

    def places(self, number: int) -> torch.Tensor | None:
        """For each frame the token (with <bos> = 0) spoken then, (T,) float; None if flite's words are others."""
        entry, coded = self.corpus.entries[number], self.entries[number]
        times = ((np.arange(coded["frames"]) + 0.5) * FRAME / RATE - self.delay) * coded["shift"]
        return places(entry, times)


def places(entry: Entry, seconds: np.ndarray) -> torch.Tensor | None:
    """Position in the text at these times, by linear interpolation within each word."""
    spans = [m.span() for m in re.finditer(r"[a-z']+", entry.text)]
    if len(spans) != len(entry.words) or not spans:
        return None
    ends = np.array([end for _, end in entry.words])
    silences = [end for name, end in entry.phones if name == "pau"]
    begins = np.concatenate(([0.0], ends[:-1]))
    for i, begin in enumerate(begins):  # a word begins when the silence before it ends
        begins[i] = max([begin, *(s for s in silences if begin < s < ends[i])])
    knots = np.stack((begins, ends), 1).ravel() + np.arange(2 * len(ends)) * 1e-6
    marks = np.array(spans, float).ravel() + 1  # <bos> comes first
    end = entry.samples / SOURCE_RATE
    knots, marks = np.append(knots, max(end, knots[-1] + 1e-3)), np.append(marks, len(entry.text) + 1.0)
    return torch.from_numpy(np.interp(seconds, knots, marks)).float()
