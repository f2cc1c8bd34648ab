"""A text of any length as a job: sentence after sentence, the first one alone, the following ones ahead of time.

The first sentence is heard while it is made. Those behind it are spoken together while it plays (and earlier than they
are needed), each to its end, because its loudness is matched to the first one's. All of it is a function of text,
voice, seed and options: a text spoken alone, streamed, or in a batch with others has the same samples.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NoReturn

import numpy as np

from sopro_np.errors import ModelError, SoproWarning
from sopro_np.guard import Guard, derived_seed
from sopro_np.job import Outcome, SentenceJob
from sopro_np.joints import Fade, Level, level_of, matching_gain
from sopro_np.script import Script
from sopro_np.speech import Sentence, Speech
from sopro_np.text.split import Piece

AHEAD = 8  # sentences of one text that are spoken at once
SILENT_PEAK = 1e-3
CLIPPED_SHARE = 1e-3  # of the samples
WORST = ("stop", "length", "cut")


@dataclass
class OnItsWay:
    """A sentence on its way."""

    piece: Piece
    position: int
    job: SentenceJob | None  # None: a pause at the end of the text
    guard: Guard | None


@dataclass(frozen=True)
class Heard:
    """A text that was said up to the end of a sentence: all that is needed to go on from there.

    sentences: those that were heard; samples: of audio so far; frames: of speech; level: power of the first sentence,
    which the others are matched to; check: as in Speech.
    """

    sentences: tuple[Sentence, ...]
    samples: int
    frames: int
    level: float
    check: tuple[str, ...] = ()


class Job(Outcome):
    """One text in a batch. `done`: nothing more will come; then `speech`, or `error`, or neither: it was removed.

    `priority`: larger goes first, as long as it has no audio yet. `after`: what was heard already; what follows is
    said, and with `keep` only that is kept.
    """

    def __init__(self, script: Script, priority: int = 0, keep: bool = True, after: Heard | None = None) -> None:
        super().__init__()
        self.priority, self.keep = priority, keep
        self.progress = 0  # characters of the text that were heard
        self.script = script
        self.flight: deque[OnItsWay] = deque()
        self.begun = script.position  # sentences, with those of the text that others said
        self.exhausted = False  # no more sentences will begin
        first = not script.position  # the text's first sentence is heard while it is made
        self._fade: Fade | None = Fade(script.sample_rate) if first else None
        self._level = Level(script.hop)
        self._loudness = script.level  # of the first sentence, once it was heard
        self.finished = 0  # sentences that were heard to their end
        self.samples = 0  # that were given out
        self._frames = 0
        self._heard_first = not first
        self._wavs: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._sentences: list[Sentence] = []
        self._check: list[str] = []
        if after is not None:
            self._go_on(after)

    def _go_on(self, after: Heard) -> None:
        """Behind the sentences that were heard; all of them follow from the text, so they are only counted."""
        count = len(after.sentences)
        next(islice(self.script.pieces, count, count), None)
        self.begun = self.finished = count
        self.samples, self._frames, self._loudness = after.samples, after.frames, after.level
        self._sentences, self._check = list(after.sentences), list(after.check)
        if after.sentences:
            self._heard_first, self._fade, self.progress = True, None, after.sentences[-1].span[1]

    @property
    def heard(self) -> Heard | None:
        """How far it was said, between two steps; None before the end of the first sentence, and once it is done."""
        if not self.finished or self.done:
            return None
        return Heard(tuple(self._sentences), self.samples, self._frames, self._loudness, tuple(self._check))

    @property
    def silent(self) -> bool:
        """No audio yet?"""
        return not self.samples

    @property
    def wants(self) -> int:
        """How many sentences should be on their way: one, until it is heard; then more with each that is finished."""
        return min(AHEAD, 1 + self._heard_first + self.finished)

    # ------------------------------------------------------------ sentences

    def begin(self, priority: int) -> SentenceJob | None:
        """The next sentence, for the batch to advance; None: the text is at its end."""
        piece = next(self.script.pieces, None)
        if piece is None:
            self.exhausted = True
            return None
        if not piece.text:  # a pause, and nothing after it
            self.exhausted = True
            self.flight.append(OnItsWay(piece, self.begun, None, None))
            return None
        session, audio = self.script.begin(piece, self.begun)
        job = SentenceJob(session, audio, priority)
        job.silent = not self.begun  # later ones do not hold up other jobs: this one is heard already
        self.flight.append(OnItsWay(piece, self.begun, job, session.guard))
        self.begun += 1
        return job

    def hear(self, job: SentenceJob, wav: np.ndarray) -> Iterator[np.ndarray]:
        """A chunk of a sentence that is being made: the first one's is heard at once."""
        if self._fade is not None and self.flight and self.flight[0].job is job:
            if not self._heard_first and (pause := self._pause(self.flight[0].piece)).size:
                yield self._give(pause)
            self._heard_first = True
            self._level.push(wav)
            if (ready := self._fade.push(wav)).size:
                yield self._give(ready)

    def collect(self) -> Iterator[np.ndarray]:
        """The sentences whose turn it is and which are there, whole."""
        while not self.done and self.flight:
            spoken = self.flight[0]
            if (job := spoken.job) is None:
                yield self._give(self._pause(spoken.piece))
            elif job.error is not None:
                self.fail(job.error)
                return
            elif job.speech is None:
                return
            else:
                yield from self._sentence(spoken, job.speech)
            self.flight.popleft()
        if self.exhausted and not self.done:
            self.end(self._whole())

    def _sentence(self, spoken: OnItsWay, said: Speech) -> Iterator[np.ndarray]:
        """Its audio, as far as it was not heard yet, and what is to be told of it."""
        rate, hop = self.script.sample_rate, self.script.hop
        if self._fade is not None:  # the first one: all but its end was given out
            self._heard_first = True
            if (rest := self._fade.end()).size:
                yield self._give(rest)
            self._fade, start, self._loudness = None, self.samples - len(said.wav), self._level.power
        else:
            if (pause := self._pause(spoken.piece)).size:
                yield self._give(pause)
            start = self.samples
            fade, gain = Fade(rate), matching_gain(level_of(said.wav, hop), self._loudness)
            wav = np.clip(np.concatenate([fade.push(said.wav), fade.end()]) * gain, -1, 1)
            step = self.script.options.chunk_frames * hop
            for at in range(0, len(wav), step):
                yield self._give(wav[at : at + step])
        self.finished += 1
        self._tell(spoken, said, start / rate)

    def _tell(self, spoken: OnItsWay, said: Speech, start: float) -> None:
        guard, piece = spoken.guard, spoken.piece
        heard = guard.best() if guard is not None and guard.tries else None
        seed, tries, problem = said.seed, 1, None
        if guard is not None and heard is not None:
            seed, tries = derived_seed(guard.seed, guard.position, heard.attempt), len(guard.tries)
            problem = heard.problem
        span, end = (piece.start, piece.end), self.samples / self.script.sample_rate
        self._sentences.append(Sentence(piece.text, span, start, end, seed, tries, said.finish_reason, problem))
        self._frames += len(said.codes)
        if self.keep:
            self._codes.append(said.codes)
        for what in [problem] if problem else sound_problems(said.wav, len(said.codes)):
            self._check.append(f"sentence {spoken.position + 1} ({piece.text[:40]!r}): {what}")
            warnings.warn(f"{self._check[-1]}; try another seed", SoproWarning, stacklevel=2)
        self.progress = span[1]

    def _pause(self, piece: Piece) -> np.ndarray:
        """The silence before it: whole frames."""
        frames = round(piece.pause * self.script.sample_rate / self.script.hop)
        return np.zeros(frames * self.script.hop, np.float32)

    def _give(self, wav: np.ndarray) -> np.ndarray:
        self.samples += len(wav)
        if self.keep:
            self._wavs.append(wav.copy())  # whoever gets it may change it
        return wav

    def _whole(self) -> Speech:
        codes: Any = self._codes
        if len(self._codes) == 1:
            codes = self._codes[0]
        options, wav = self.script.options, np.concatenate([np.zeros(0, np.float32), *self._wavs])
        assert options.seed is not None
        reason = max((s.finish_reason for s in self._sentences), key=WORST.index, default="stop")
        check, sentences = tuple(self._check), tuple(self._sentences)
        return Speech(wav, codes, reason, options.seed, self._frames, check, sentences, self._loudness)

    def _forget(self) -> None:
        self._wavs, self._codes, self._sentences, self._check, self._fade = [], [], [], [], None
        self._level = Level(self.script.hop)
        self.script = replace(self.script, pieces=iter(()), begin=_ended)  # the model may be freed


def _ended(*_: object) -> NoReturn:
    raise ModelError("this job is over")


def sound_problems(wav: np.ndarray, frames: int) -> list[str]:
    """What is wrong with the audio of a sentence, as far as samples (n,) can tell."""
    if not frames:
        return ["the model ended at once and said nothing"]
    size = np.abs(wav)
    if float(size.max(initial=0.0)) < SILENT_PEAK:
        return ["it is silent"]
    if np.count_nonzero(size >= 1) > CLIPPED_SHARE * len(wav):
        return ["it is clipped"]
    return []
