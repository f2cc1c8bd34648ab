"""Tasks spoken by this process: several joined in one batch, the next one as soon as one ends."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np

from sopro_np.bulk.outputs import Said
from sopro_np.bulk.plan import Task
from sopro_np.engine import Sopro
from sopro_np.errors import SoproError, SoproWarning
from sopro_np.longform import Heard, Job
from sopro_np.speechbatch import SpeechBatch
from sopro_np.voice import Voice
from sopro_np.wav import pcm16

VOICES_KEPT = 16  # ready to speak


class Sink(Protocol):
    """Where the samples of a task go. `after`: what was said of it before. `mark` tells whether it is enough for now;
    then neither `finish` nor `fail` is called, but `close`."""

    after: Heard | None

    def write(self, data: bytes) -> None: ...
    def mark(self, heard: Heard) -> bool: ...
    def finish(self, said: Said) -> None: ...
    def fail(self, problem: str) -> None: ...
    def close(self) -> None: ...


class Voices:
    """Voices by their codes (R, Q), those asked for last ready to speak."""

    def __init__(self, tts: Sopro) -> None:
        self._tts = tts
        self._ready: dict[tuple[Any, ...], Voice] = {}

    def of(self, codes: np.ndarray) -> Voice:
        """VoiceError if they do not fit the model."""
        key = codes.shape, codes.tobytes()
        voice = self._ready.pop(key, None) or self._tts.voice_from_codes(codes)
        self._ready[key] = voice  # as the last one
        if len(self._ready) > VOICES_KEPT:
            del self._ready[next(iter(self._ready))]
        return voice


class Running:
    """A task in the batch. notes: what was said of its text beforehand; marked: sentences that its sink knows of."""

    def __init__(self, sink: Sink, notes: list[str]) -> None:
        self.sink, self.notes = sink, notes
        self.marked = len(sink.after.sentences) if sink.after else 0

    def end(self, job: Job) -> None:
        """It was said, or went wrong."""
        if job.speech is None:
            self.sink.fail(problem(job.error) if job.error else "it was ended from outside")
            return
        speech, spoken = job.speech, " ".join(sentence.text for sentence in job.speech.sentences)
        self.sink.finish(Said(job.samples, speech.finish_reason, (*self.notes, *speech.check), spoken))

    def go_on(self, job: Job) -> bool:
        """Mark the sentences that were heard; False: that is enough for now."""
        if job.finished == self.marked or (heard := job.heard) is None:
            return True
        self.marked = job.finished
        return not self.sink.mark(heard)


def speak(
    tts: Sopro,
    tasks: Iterable[Task],
    options: Mapping[str, Any],
    width: int,
    sink: Callable[[Task], Sink],
    tell: Callable[[int], None] = lambda characters: None,
) -> None:
    """Say tasks, up to `width` at once, each into what `sink` gives for it.

    What goes wrong with one is said to its sink; errors of sinks end everything. tell: characters said of those tasks
    that are on their way.
    """
    batch, voices, waiting = tts.batch(width), Voices(tts), iter(tasks)
    running: dict[Job, Running] = {}
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)  # what there is to say of a task is in its record
        stack.callback(_close, running)
        while True:
            while len(batch) < width and (task := next(waiting, None)) is not None:
                if (begun := _begin(batch, voices, task, sink(task), options)) is not None:
                    running.update([begun])
            if not running:
                return
            for job, wav in batch.step():
                running[job].sink.write(pcm16(wav))
            for job in list(running):
                if job.done:
                    running.pop(job).end(job)
                elif not running[job].go_on(job):
                    batch.remove(job)
                    running.pop(job).sink.close()
            tell(sum(job.progress for job in running))


def _begin(
    batch: SpeechBatch, voices: Voices, task: Task, sink: Sink, options: Mapping[str, Any]
) -> tuple[Job, Running] | None:
    """The task as a job; None: it cannot be spoken, and its sink knows."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", SoproWarning)
        try:
            who = voices.of(task.codes)
            job = batch.add(task.text, who, keep=False, after=sink.after, **{**options, "seed": task.seed})
        except Exception as error:
            sink.fail(problem(error))
            return None
    return job, Running(sink, [str(note.message) for note in notes if issubclass(note.category, SoproWarning)])


def _close(running: dict[Job, Running]) -> None:
    for each in running.values():
        each.sink.close()


def problem(error: Exception) -> str:
    """An error in words; what nobody foresaw by its kind."""
    return str(error) if isinstance(error, SoproError) else f"{type(error).__name__}: {error}"
