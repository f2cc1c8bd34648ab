"""Texts in a batch: each may have several sentences on their way, those that are needed first before all others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import NoReturn, Unpack

import numpy as np

from sopro_np.batch import Batch
from sopro_np.errors import Full, ModelError, UsageError
from sopro_np.job import SentenceJob
from sopro_np.longform import AHEAD, Heard, Job
from sopro_np.ops.runtime import Runtime
from sopro_np.options import OptionArgs, Options
from sopro_np.script import Part, Script
from sopro_np.voice import WhoSpeaks


class SpeechBatch:
    """Texts spoken at once: `add` one between any two steps, `step` until `len` is 0, `remove` what nobody waits for.

    One thread steps; `add`, `remove` and `Job.cancel` may come from others. `write`: what is said for a text.
    """

    def __init__(self, runtime: Runtime, size: int, write: Callable[[str | Part, WhoSpeaks, Options], Script]) -> None:
        self.size, self._write = size, write
        self._batch = Batch(runtime, size + AHEAD)  # sentences: one of each text, and some ahead of time
        self._jobs: list[Job] = []
        self._lock = threading.Lock()  # of the list of jobs
        self._stepper: object = None  # a step that is under way

    def __len__(self) -> int:
        return len(self._jobs)

    def __reduce__(self) -> NoReturn:
        raise ModelError("a batch is not pickled: pickle the Sopro, and make a batch of it there")

    def _check_room(self) -> None:
        if len(self) >= self.size:
            raise Full(f"the batch is full: {self.size} jobs; step it until one is done, or make a larger one")

    def add(
        self,
        text: str | Part,
        voice: WhoSpeaks = None,
        *,
        priority: int = 0,
        keep: bool = True,
        after: Heard | None = None,
        **options: Unpack[OptionArgs],
    ) -> Job:
        """A text of any length, spoken from the next step on. Options as in `synthesize`; sopro_np.Full beyond `size`.

        The first audio comes after codebook 0 of the first sentence; earlier with `lookahead` 0 to 16.
        `priority`: while a job of a higher one has no audio yet, lower ones wait (at most 100 steps in a row).
        `keep` False: job.speech has no wav and no codes, so that memory does not grow with the text.
        `after`: what `Job.heard` was before, with the same text, voice, options and seed: only the rest is said.
        """
        self._check_room()  # before any work
        job = self.prepare(text, voice, priority=priority, keep=keep, after=after, **options)
        self.join(job)
        return job

    def prepare(
        self,
        text: str | Part,
        voice: WhoSpeaks = None,
        *,
        priority: int = 0,
        keep: bool = True,
        after: Heard | None = None,
        **options: Unpack[OptionArgs],
    ) -> Job:
        """The job of `add`, checked and its text normalised, for `join`; from any thread. No model computes yet."""
        if isinstance(priority, bool) or not isinstance(priority, Integral):
            raise UsageError(f"priority = {priority!r} must be a whole number; larger goes first")
        return Job(self._write(text, voice, Options.of(options).seeded()), int(priority), keep, after)

    def join(self, job: Job) -> None:
        """A prepared job is spoken from the next step on; once. sopro_np.Full beyond `size`."""
        self._check_room()
        first = job.begin(job.priority)
        with self._lock:
            self._check_room()
            self._jobs.append(job)
        if first is not None:
            self._batch.add(first)

    def step(self) -> list[tuple[Job, np.ndarray]]:
        """Advance all -> (job, float32 chunk in [-1, 1]) for the audio that became ready, in order for each job."""
        me = object()
        try:
            with self._lock:
                if self._stepper is not None:
                    raise UsageError("another thread is stepping this batch: step it from one, or make one for each")
                self._stepper = me
            return self._step()
        finally:  # no call, so no Ctrl-C can come in between and leave the batch locked
            self._stepper = None if self._stepper is me else self._stepper

    def _step(self) -> list[tuple[Job, np.ndarray]]:
        for job in [job for job in self._jobs if job.cancelled]:
            job.end()
        self._drop_ended()
        jobs = list(self._jobs)
        try:
            self._begin_more(jobs)
            found = self._batch.step()
            return [(job, wav) for job in jobs for wav in self._heard(job, found)]
        except BaseException:  # Ctrl-C: nobody knows how far they are
            for job in jobs:
                job.fail(ModelError("the step was interrupted: say it again"))
            raise
        finally:
            self._drop_ended()

    def _begin_more(self, jobs: list[Job]) -> None:
        """The next sentences of the texts, where there is room."""
        for job in jobs:
            try:
                while not job.exhausted and len(job.flight) < job.wants and self._room(job):
                    if (sentence := job.begin(job.priority)) is not None:
                        self._batch.add(sentence)
            except Exception as error:
                job.fail(error)

    def _room(self, job: Job) -> bool:
        """Every text may have one sentence on its way; more, if they leave room for the first ones of others."""
        return not job.flight or len(self._batch) < max(self.size, AHEAD)

    @staticmethod
    def _heard(job: Job, found: list[tuple[SentenceJob, np.ndarray]]) -> Iterator[np.ndarray]:
        try:
            for sentence, wav in found:
                yield from job.hear(sentence, wav)
            yield from job.collect()
        except Exception as error:
            job.fail(error)

    def _drop_ended(self) -> None:
        """Jobs that are done leave, and with them what was on its way for them."""
        with self._lock:
            ended, self._jobs = [j for j in self._jobs if j.done], [j for j in self._jobs if not j.done]
        for job in ended:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        while job.flight:
            spoken = job.flight.popleft()
            if spoken.job is not None and not spoken.job.done:
                self._batch.remove(spoken.job)

    def remove(self, job: Job) -> None:
        """Cancel at once, whatever the job is doing; its memory returns."""
        if not isinstance(job, Job):
            raise UsageError(f"{job!r} is no job: remove takes what add gave")
        if job not in self._jobs and not job.done:
            raise UsageError("this job is not in this batch: remove it from the one it was added to")
        job.end()
        self._drop_ended()

    def close(self, error: ModelError) -> None:
        """All jobs end with this error: their model is closed."""
        for job in list(self._jobs):
            job.fail(error)
        self._batch.close(error)
        self._drop_ended()
