"""Stage `taught-codes`: the lessons as codes, each in one speaker's voice, for Sopro; and the reading of them.

Texts are in the spoken form of the text front end, which is what a model is given at run time. Durations are exact, so
it is known which letter is said in which frame: words are matched, and letters lie evenly within their word.

work/codes (growing.py) holds codes.u16, components.f16 and places.f16, a row for every frame; it is made anew when
codebooks or speakers have changed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from sopro_np.text.normalise import normalise
from tools.train.codebooks import Codebooks
from tools.train.growing import Column, Growing, read_index
from tools.train.sopro import SoproTrainer
from tools.train.taught.features import parameters, vectors
from tools.train.taught.speakers import said_by, speaker_of, speakers
from tools.train.taught.teach import STEPS, Lessons

WORD = re.compile(r"[A-Za-z']+")
PAUSES = frozenset("|,.;:?!-—… ")  # symbols of which nothing is said


def spoken_words(symbols: str, durations: np.ndarray) -> list[tuple[float, float]]:
    """Beginning and end of each word of a lesson, in frames."""
    ends, found, first = np.cumsum(durations), [], None
    for i, symbol in enumerate(symbols):
        if symbol not in PAUSES and first is None:
            first = i
        elif symbol in PAUSES and first is not None:
            found.append((first, i - 1))
            first = None
    return [((ends[a] - durations[a]) / STEPS, ends[b] / STEPS) for a, b in found]


def places(written: str, spoken: str, symbols: str, durations: np.ndarray, frames: int) -> np.ndarray:
    """(frames,) the token, <bos> being 0, that is said in each frame of a spoken text; NaN if the words do not match.

    `written` is the text as the teacher got it: a word with a hyphen is one to it.
    """
    letters = [m.span() for m in WORD.finditer(spoken)]
    counts = [len(WORD.findall(word)) for word in written.split() if WORD.search(word)]
    times = spoken_words(symbols, durations)
    if len(counts) != len(times) or sum(counts) != len(letters) or not letters:
        return np.full(frames, np.nan)
    last = np.cumsum(counts) - 1
    spans = [(letters[b - n + 1][0], letters[b][1]) for b, n in zip(last, counts, strict=True)]
    knots = np.array(times).ravel() + np.arange(2 * len(times)) * 1e-6
    marks = np.array(spans, float).ravel() + 1
    knots, marks = np.append(knots, max(frames, knots[-1] + 1e-3)), np.append(marks, len(spoken) + 1.0)
    return np.interp(np.arange(frames) + 0.5, knots, marks)


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Code every lesson, going on where an interruption stopped."""
    torch.set_num_threads(cfg.codec.threads)
    books, lessons, people = Codebooks.load(work), Lessons(work / "teacher" / "heart"), speakers(cfg)
    source = hashlib.sha256((work / "codebooks.npz").read_bytes() + repr((cfg.seed, cfg.speakers)).encode()).hexdigest()
    columns = (
        Column("codes.u16", np.uint16, len(books.books)),
        Column("components.f16", np.float16, books.basis.shape[1]),
        Column("places.f16", np.float16, 1),
    )
    with Growing(work / "codes", "frames", *columns, source=source) as files:
        for number in range(files.count, len(lessons)):
            lesson, who = lessons[number], speaker_of(number, cfg)
            written = lessons.entries[number][1]["text"]
            spoken = normalise(written).text if lesson.frames else ""
            where = places(written, spoken, lesson.symbols, lesson.durations, lesson.frames)
            x = torch.zeros(0, books.basis.shape[1])
            if lesson.frames:
                x = books.components(torch.from_numpy(vectors(parameters(said_by(lesson, people[who])))))
            record = {"number": number, "speaker": who, "text": spoken, "frames": len(x)}
            files.add(record, books.codes(x).numpy(), x.numpy(), where)


class CodedLessons:
    """Texts, codes, speakers, and where in its text each frame is; `train` and `validation` are lists of numbers."""

    def __init__(self, work: Path, validation_every: int, longest: int) -> None:
        """Texts of more than `longest` tokens are left out."""
        self.entries, self.books = read_index(work / "codes"), Codebooks.load(work)
        frames = self.entries[-1]["start"] + self.entries[-1]["frames"]
        self.rows, self.vectors, self.where = (
            np.memmap(path, dtype, "r")[: frames * width].reshape(frames, width) if path.exists() else None
            for path, dtype, width in (
                (work / "codes" / "codes.u16", np.uint16, len(self.books.books)),
                (work / "codes" / "components.f16", np.float16, self.books.basis.shape[1]),
                (work / "codes" / "places.f16", np.float16, 1),
            )
        )
        said = [i for i, e in enumerate(self.entries) if e["frames"] and len(e["text"]) + 2 <= longest]
        self.train = [i for i in said if i % validation_every]
        self.validation = [i for i in said if i % validation_every == 0]
        self.speakers: dict[int, list[int]] = {}
        for i in self.train:
            self.speakers.setdefault(self.speaker(i), []).append(i)

    def text(self, number: int) -> str:
        return str(self.entries[number]["text"])

    def speaker(self, number: int) -> int:
        return int(self.entries[number]["speaker"])

    def codes(self, number: int) -> torch.Tensor:
        """(T, Q) int64."""
        return torch.from_numpy(self.rows[self._span(number)].astype(np.int64))

    def components(self, number: int) -> torch.Tensor:
        """(T, D) float; where only codes were brought along, an eighth of the size, what they say."""
        if self.vectors is None:
            return self.books.rows(self.codes(number)[None])[1][0]
        return torch.from_numpy(self.vectors[self._span(number)].astype(np.float32))

    def places(self, number: int) -> torch.Tensor:
        """(T,) float, NaN where nothing is known."""
        return torch.from_numpy(self.where[self._span(number), 0].astype(np.float32))

    def _span(self, number: int) -> slice:
        entry = self.entries[number]
        return slice(entry["start"], entry["start"] + entry["frames"])

    def reference(self, number: int, frames: int, rng: np.random.Generator) -> torch.Tensor:
        """Codes of other utterances of the same speaker, one after the other, (frames, Q)."""
        same = self.speakers[self.speaker(number)]
        parts: list[torch.Tensor] = []
        while sum(map(len, parts)) < frames:
            other = same[rng.integers(len(same))]
            if other != number or len(same) == 1:
                parts.append(self.codes(other))
        return torch.cat(parts)[:frames]


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.sopro.steps; the best state by validation is work/sopro/model.safetensors."""
    torch.set_num_threads(cfg.sopro.threads)
    longest = cfg.sopro.models[cfg.sopro.architecture]["max_text_len"]
    SoproTrainer(cfg.sopro, work / "sopro", CodedLessons(work, cfg.data.validation_every, longest)).run()
