"""Several utterances at once (continuous batching): joined, advanced and removed between any two steps.

A step reads the AR's weights once for all utterances that speak: that is what its time goes into, so a step of four
costs little more than a step of one. Nothing else is shared: each utterance keeps its own state, and says what it
would have said alone. NAR and codec work is done for some of them, a bounded piece each, in turn: where it is equal,
the NAR and the codec's transformer read their weights once; the rest runs side by side, on a thread each.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

import numpy as np

from sopro_np.errors import Full, ModelError, UsageError
from sopro_np.job import SentenceJob, failing
from sopro_np.mimi.codec import TRANSFORMER_FRAMES, DecoderState
from sopro_np.ops.runtime import Runtime
from sopro_np.session import AudioStream, Block, Session

STEP_WORK = 32  # frames of NAR and codec work in one step (but at least a job for every thread)
MOST_HELD = 100  # steps in a row in which jobs of lower priority may be left out


class Batch:
    """Up to `size` jobs of one model. One thread steps it; `add` and `remove` may come from others."""

    def __init__(self, runtime: Runtime, size: int = 16) -> None:
        self.runtime, self.size = runtime, size
        self._jobs: list[SentenceJob] = []
        self._lock = threading.Lock()  # of the list of jobs
        self._turns = self._held = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def check_room(self) -> None:
        """Full if there is no place for one more."""
        if len(self) >= self.size:
            raise Full(f"the batch is full: {self.size} jobs; step it until one is done, or make a larger one")

    def add(self, job: SentenceJob) -> None:
        """It takes part from the next step on."""
        with self._lock:
            self.check_room()
            job.turn = self._turns
            self._jobs.append(job)

    def remove(self, job: SentenceJob) -> None:
        """Cancelled at once, whatever it was doing; one that is done is left as it is."""
        if not isinstance(job, SentenceJob):
            raise UsageError(f"{job!r} is no job: remove takes what add gave")
        if not self._drop(job) and not job.done:
            raise UsageError("this job is not in this batch: remove it from the one it was added to")
        job.end()

    def _drop(self, job: SentenceJob) -> bool:
        """Is it out now, and was it in before?"""
        with self._lock:
            before, self._jobs = len(self._jobs), [other for other in self._jobs if other is not job]
            return len(self._jobs) < before

    def close(self, error: ModelError) -> None:
        """All jobs end with this error."""
        with self._lock:
            jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.fail(error)

    def step(self) -> list[tuple[SentenceJob, np.ndarray]]:
        """The next code of every job, and some NAR and codec work -> audio that became ready, in order for each job."""
        for job in [job for job in self._jobs if job.cancelled]:
            self._drop(job)
            job.end()
        jobs = self._whose_turn()
        try:
            self._advance(jobs)
            return self._work([job for job in jobs if job.due])
        except BaseException:  # Ctrl-C: nobody knows how far they are
            for job in jobs:
                job.fail(ModelError("the step was interrupted: say it again"))
            raise
        finally:
            for job in jobs:
                if job.done:
                    self._drop(job)

    def _whose_turn(self) -> list[SentenceJob]:
        """All jobs; but for some steps only those of the highest priority that has no audio yet, and higher ones."""
        jobs = list(self._jobs)
        most = max((job.priority for job in jobs if job.silent), default=None)
        if most is None or all(job.priority >= most for job in jobs) or self._held >= MOST_HELD:
            self._held = 0
            return jobs
        self._held += 1
        return [job for job in jobs if job.priority >= most]

    # ------------------------------------------------------------ codebook 0

    def _advance(self, jobs: Sequence[SentenceJob]) -> None:
        """The next code of every job that still speaks; those whose state is exact take the step together."""
        speaking = [(job, s) for job in jobs if (s := job.session) is not None and s.finish_reason is None]
        together: list[tuple[SentenceJob, Session, np.ndarray]] = []
        for job, session in speaking:
            with failing(job):
                if len(speaking) > 1 and session.model.ar.exact(session.state):
                    together.append((job, session, session.next_condition()))
                else:
                    session.advance()
        together.sort(key=lambda its: its[1].utterance.text_room)  # the same rooms, the same captured step
        for runtime in dict.fromkeys(session.runtime for _, session, _ in together):
            alike = [its for its in together if its[1].runtime is runtime]
            if len(alike) > 1:
                self._advance_together(alike)
            else:
                [(job, session, _)] = alike
                with failing(job):
                    session.advance()

    def _advance_together(self, rows: Sequence[tuple[SentenceJob, Session, np.ndarray]]) -> None:
        sessions = [session for _, session, _ in rows]
        conditions = np.stack([row for _, _, row in rows])
        runtime = sessions[0].runtime  # of all
        try:
            with runtime(one_row=True):
                states, utterances = [s.state for s in sessions], [s.utterance for s in sessions]
                logits = sessions[0].model.ar.step_together(conditions, states, utterances)
        except Exception:  # whose fault it was shows when each takes the step alone
            for job, session, _ in rows:
                with failing(job):
                    session.rebuild()
                    session.advance()
            return
        with runtime(one_row=True):
            for (job, session, row), own in zip(rows, logits, strict=True):
                with failing(job):
                    session.accept(row, own)

    # ------------------------------------------------------------ the rest

    def _work(self, jobs: list[SentenceJob]) -> list[tuple[SentenceJob, np.ndarray]]:
        """A bounded piece of NAR and codec work for some jobs, by turns: who waits longest goes first."""
        jobs.sort(key=lambda job: job.turn)
        chosen: list[SentenceJob] = []
        frames = 0
        for job in jobs:
            frames += job.chunk_frames
            if frames > STEP_WORK and len(chosen) >= self.runtime.width:
                break
            chosen.append(job)
            self._turns += 1
            job.turn = self._turns
        self._refine(chosen)
        for job in chosen:
            job.finish()  # of which nothing is heard any more
        wavs = self._decode([job for job in chosen if (audio := job.audio) is not None and audio.due])
        for job in chosen:
            job.finish()
        return [(job, wav) for job, wav in wavs if job.speech is not None or not job.done]

    def _refine(self, jobs: Sequence[SentenceJob]) -> None:
        """The next block of each; equal ones together."""
        groups: dict[tuple[int, int, Runtime], list[tuple[SentenceJob, Session, Block]]] = {}
        for job in jobs:
            with failing(job):
                if (session := job.session) is None or not session.due:
                    continue
                block = session.block()
                if block is not None and len(jobs) > 1:
                    kind = len(block.first), block.keep, session.runtime
                    groups.setdefault(kind, []).append((job, session, block))
                else:
                    job.add_rows(session.ready())
        for (_, keep, runtime), group in groups.items():
            blocks = [block for _, _, block in group]
            condition, first = (np.concatenate([block[i] for block in blocks]) for i in (0, 1))
            nar = group[0][1].model.nar
            try:
                with runtime():
                    rows = nar.refine_together(condition, first, [block.state for block in blocks], keep)
            except Exception:  # whose fault it was shows when each is refined alone
                for job, session, _ in group:
                    with failing(job):
                        session.rebuild_nar()
                        job.add_rows(session.ready())
                continue
            for (job, session, _), own in zip(group, rows, strict=True):
                job.add_rows(session.refined(own))

    def _decode(self, jobs: Sequence[SentenceJob]) -> list[tuple[SentenceJob, np.ndarray]]:
        """The next chunk of each: the codec's transformer for equal ones together, then its SEANet side by side.

        A long chunk is decoded alone, in the codec's own pieces.
        """
        groups: dict[tuple[int, int, Runtime], list[tuple[SentenceJob, AudioStream, np.ndarray, DecoderState]]] = {}
        for job in jobs:
            with failing(job):
                if (audio := job.audio) is not None:
                    codes, state = audio.next_chunk()
                    kind = len(codes), codes.shape[1], self.runtime.at(audio.precision)
                    groups.setdefault(kind, []).append((job, audio, codes, state))
        tasks: dict[Runtime, list[Callable[[], tuple[SentenceJob, np.ndarray] | None]]] = {}
        for (frames, _, runtime), group in groups.items():
            mine = tasks.setdefault(runtime, [])
            if frames > TRANSFORMER_FRAMES:
                mine += [functools.partial(self._heard, job, audio.pull) for job, audio, _, _ in group]
                continue
            states = [state for _, _, _, state in group]
            mimi = group[0][1].mimi
            try:
                with runtime():
                    together = mimi.features(np.concatenate([codes for _, _, codes, _ in group]), states)
            except Exception:  # whose fault it was shows when each is decoded alone
                mine += [functools.partial(self._heard, job, audio.pull_again) for job, audio, _, _ in group]
                continue
            for (job, audio, _, _), own in zip(group, np.split(together, len(group)), strict=True):
                mine.append(functools.partial(self._heard, job, functools.partial(audio.pull_features, own)))
        heard = [found for runtime, mine in tasks.items() for found in runtime.side_by_side(mine)]
        return [found for found in heard if found is not None]

    @staticmethod
    def _heard(job: SentenceJob, pull: Callable[[], np.ndarray]) -> tuple[SentenceJob, np.ndarray] | None:
        with failing(job):
            wav = pull()
            job.add_wav(wav)
            return job, wav
        return None
