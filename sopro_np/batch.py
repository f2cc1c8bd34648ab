"""Several utterances at once (continuous batching): joined, advanced and removed between any two steps.

A step reads the AR's weights once for all utterances that speak: that is what its time goes into, so a step of four
costs little more than a step of one. Nothing else is shared: each utterance keeps its own state, and says what it
would have said alone. NAR and codec work is done for as many utterances side by side as there are threads, a bounded
piece each, in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sopro_np.errors import Full, UsageError
from sopro_np.ops.runtime import Runtime
from sopro_np.options import Options
from sopro_np.session import AudioStream, Session
from sopro_np.speech import Speech
from sopro_np.voice import WhoSpeaks

MOST_HELD = 100  # steps in a row in which jobs of lower priority may be left out


class Job:
    """One utterance in a batch. `done`: nothing more will come; then `speech`, or `error`, or neither: it was removed.

    `priority`: larger goes first, as long as it has no audio yet.
    """

    def __init__(self, session: Session, audio: AudioStream, priority: int = 0) -> None:
        self.priority = priority
        self.done = False
        self.speech: Speech | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self.silent = True  # no audio yet
        self.turn = 0  # when its last piece of NAR and codec work was done
        self._work: tuple[Session, AudioStream] | None = (session, audio)
        self._codes: list[np.ndarray] = []
        self._wavs: list[np.ndarray] = []

    def cancel(self) -> None:
        """Stop before the next step; from any thread."""
        self.cancelled = True

    @property
    def session(self) -> Session | None:
        """The utterance, until it is done."""
        doing = self._work  # another thread may remove the job at any moment
        return None if doing is None else doing[0]

    @property
    def due(self) -> bool:
        """Is there NAR or codec work to do?"""
        if (doing := self._work) is None:
            return False
        session, audio = doing
        return session.due or audio.due or session.finish_reason is not None

    def work(self) -> np.ndarray | None:
        """A bounded piece of NAR and codec work -> a chunk of audio, if one is ready. Sets `done` behind the last."""
        if (doing := self._work) is None or self.cancelled:
            return None
        session, audio = doing
        try:
            if session.due:
                audio.push(rows := session.ready())
                self._codes.append(rows)
            audio.last = session.finish_reason is not None and not session.due
            wav = audio.pull() if audio.due else None
        except Exception as error:  # of this job alone: the others go on
            self.fail(error)
            return None
        if self._work is None:  # removed by another thread meanwhile
            return None
        if wav is not None:
            self._wavs.append(wav)
            self.silent = False
        if audio.last and not audio.due:
            self._finish(session)
        return wav

    def _finish(self, session: Session) -> None:
        wav = np.concatenate([np.zeros(0, np.float32), *self._wavs])
        codes = np.concatenate([np.zeros((0, session.model.config.codebooks), np.int64), *self._codes])
        assert session.finish_reason is not None and session.options.seed is not None
        self.speech = Speech(wav, codes, session.finish_reason, session.options.seed)
        self.let_go()

    def fail(self, error: Exception) -> None:
        """It ends with this error."""
        if not self.done:
            self.error = error
            self.let_go()

    def let_go(self) -> None:
        """All memory of the work returns."""
        self.done, self._work, self._wavs, self._codes = True, None, [], []


class Batch:
    """Up to `size` jobs of one model. One thread steps it; `add`, `remove` and `Job.cancel` may come from others."""

    def __init__(self, runtime: Runtime, size: int = 16) -> None:
        self.runtime, self.size = runtime, size
        self._jobs: list[Job] = []
        self._lock = threading.Lock()  # of the list of jobs
        self._stepping = threading.Lock()
        self._turns = self._held = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def check_room(self) -> None:
        """Full if there is no place for one more."""
        if len(self) >= self.size:
            raise Full(f"the batch is full: {self.size} jobs; step it until one is done, or make a larger one")

    def add(self, job: Job) -> None:
        """It takes part from the next step on."""
        with self._lock:
            self.check_room()
            job.turn = self._turns
            self._jobs.append(job)

    def remove(self, job: Job) -> None:
        """Cancelled at once, whatever it was doing; a job that is not there (any more) is ignored."""
        job.cancelled = True
        self._drop(job)
        if not job.done:
            job.let_go()

    def _drop(self, job: Job) -> None:
        with self._lock:
            self._jobs = [other for other in self._jobs if other is not job]

    def step(self) -> list[tuple[Job, np.ndarray]]:
        """The next code of every job, and some NAR and codec work -> audio that became ready, in order for each job."""
        with self._alone():
            for job in [job for job in self._jobs if job.cancelled]:
                self.remove(job)
            jobs = self._whose_turn()
            self._advance(jobs)
            ready = self._work([job for job in jobs if job.due])
            for job in jobs:
                if job.done:
                    self._drop(job)
            return ready

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._stepping.acquire(blocking=False):
            raise UsageError("another thread is stepping this batch: step it from one thread, or make one for each")
        try:
            yield
        finally:
            self._stepping.release()

    def _whose_turn(self) -> list[Job]:
        """All jobs; but for some steps only those of the highest priority that has no audio yet, and higher ones."""
        jobs = list(self._jobs)
        most = max((job.priority for job in jobs if job.silent), default=None)
        if most is None or all(job.priority >= most for job in jobs) or self._held >= MOST_HELD:
            self._held = 0
            return jobs
        self._held += 1
        return [job for job in jobs if job.priority >= most]

    # ------------------------------------------------------------ codebook 0

    def _advance(self, jobs: Sequence[Job]) -> None:
        """The next code of every job that still speaks; those whose state is exact take the step together."""
        speaking = [(job, s) for job in jobs if (s := job.session) is not None and s.finish_reason is None]
        together: list[tuple[Job, Session, np.ndarray]] = []
        for job, session in speaking:
            with _failing(job):
                if len(speaking) > 1 and session.model.ar.exact(session.state):
                    together.append((job, session, session.next_condition()))
                else:
                    session.advance()
        if len(together) == 1:
            [(job, session, _)] = together
            with _failing(job):
                session.advance()
        elif together:
            self._advance_together(together)

    def _advance_together(self, rows: Sequence[tuple[Job, Session, np.ndarray]]) -> None:
        sessions = [session for _, session, _ in rows]
        conditions = np.stack([row for _, _, row in rows])
        try:
            with self.runtime(one_row=True):
                states, utterances = [s.state for s in sessions], [s.utterance for s in sessions]
                logits = sessions[0].model.ar.step_together(conditions, states, utterances)
        except Exception:  # whose fault it was shows when each takes the step alone
            for job, session, _ in rows:
                with _failing(job):
                    session.rebuild()
                    session.advance()
            return
        with self.runtime(one_row=True):
            for (job, session, row), own in zip(rows, logits, strict=True):
                with _failing(job):
                    session.accept(row, own)

    # ------------------------------------------------------------ the rest

    def _work(self, jobs: list[Job]) -> list[tuple[Job, np.ndarray]]:
        """A piece of work for as many jobs as there are threads: those without audio first, then by turns."""
        jobs.sort(key=lambda job: (not job.silent, -job.priority, job.turn))
        chosen = jobs[: max(1, self.runtime.width)]
        for job in chosen:
            self._turns += 1
            job.turn = self._turns
        wavs = self.runtime.side_by_side([job.work for job in chosen])
        return [(job, wav) for job, wav in zip(chosen, wavs, strict=True) if wav is not None and not job.cancelled]


@contextmanager
def _failing(job: Job) -> Iterator[None]:
    """What goes wrong inside is this job's end, and nobody else's."""
    try:
        yield
    except Exception as error:
        job.fail(error)


class SpeechBatch:
    """Texts spoken at once: `add` one between any two steps, `step` until `len` is 0, `remove` what nobody waits for.

    One thread steps; `add`, `remove` and `Job.cancel` may come from others. `start` makes the utterance of a text.
    """

    def __init__(
        self, runtime: Runtime, size: int, start: Callable[[str, WhoSpeaks, Options], tuple[Session, AudioStream]]
    ) -> None:
        self._batch, self._start = Batch(runtime, size), start

    def __len__(self) -> int:
        return len(self._batch)

    def add(
        self, text: str, voice: WhoSpeaks = None, *, seed: int | None = None, priority: int = 0, **options: Any
    ) -> Job:
        """A text that is spoken from the next step on. Options as in `synthesize`; sopro_np.Full beyond `size` jobs.

        `priority`: while a job of a higher one has no audio yet, lower ones wait (at most 100 steps in a row).
        """
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise UsageError(f"priority = {priority!r} must be a whole number; larger goes first")
        chosen = Options.of({**options, "seed": seed})
        self._batch.check_room()  # before any work
        job = Job(*self._start(text, voice, chosen), priority)
        self._batch.add(job)
        return job

    def step(self) -> list[tuple[Job, np.ndarray]]:
        """Advance all -> (job, float32 chunk in [-1, 1]) for the audio that became ready, in order for each job."""
        return self._batch.step()

    def remove(self, job: Job) -> None:
        """Cancel at once, whatever the job is doing; its memory returns."""
        self._batch.remove(job)
