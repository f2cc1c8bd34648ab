"""Request scheduler (continuous batching): a bounded priority queue before one model, and the thread that steps it.

Requests wait by priority and age, take a place in the batch, and leave it when they are over or their caller has gone;
joining and leaving happen between two steps. Protocols know this and nothing below.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from typing import Any, Unpack

from sopro_np.engine import Sopro
from sopro_np.errors import ModelError, UsageError
from sopro_np.options import OptionArgs
from sopro_np.script import Part
from sopro_np.serve.estimate import Need, need, total_bytes
from sopro_np.serve.logs import log_failure
from sopro_np.serve.metrics import Histogram
from sopro_np.serve.order import RANKS, turn
from sopro_np.serve.ticket import Busy, Draining, Expired, Loading, Ticket
from sopro_np.voice import WhoSpeaks

WIDTH = 16  # requests that are spoken at once
QUEUE = 64  # that wait
MOST_RETRY = 60  # seconds; the longest advice


class Scheduler:
    """Requests for one model. `start`, then `submit` from any thread; `drain` at the end.

    queue: how many may wait; memory: bytes that all requests together may need by estimate (None: no bound); width:
    how many are spoken at once. Warm-up and all steps run on one thread of its own.
    """

    def __init__(self, tts: Sopro, *, queue: int = QUEUE, memory: int | None = None, width: int | None = None) -> None:
        if queue < 0 or (memory is not None and memory < 1) or (width is not None and width < 1):
            raise UsageError(f"queue = {queue}, memory = {memory}, width = {width}: too small to speak anything")
        self.tts, self.queue, self.memory, self.width = tts, queue, memory, WIDTH if width is None else width
        self.ready = self.draining = False
        self.failure: Exception | None = None  # why it will never be ready
        self.counts = dict.fromkeys(("finished", "failed", "cancelled", "expired", "refused"), 0)
        self.audio_seconds = self.busy_seconds = 0.0
        self.waited, self.first_audio, self.took = Histogram(), Histogram(), Histogram()
        self._batch = tts.batch(self.width)
        self._waiting: list[Ticket] = []
        self._running: dict[Any, Ticket] = {}  # by job
        self._held: weakref.WeakSet[Ticket] = weakref.WeakSet()  # also those whose audio was not taken yet
        self._recent: deque[float] = deque(maxlen=32)  # seconds that the last ones took, once they had a place
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="sopro_np scheduler", daemon=True)

    # ------------------------------------------------------------ callers

    def start(self) -> None:
        """Warm up on the thread that will step, and be `ready` then."""
        self._thread.start()

    def submit(
        self,
        text: str | Part,
        voice: WhoSpeaks = None,
        *,
        priority: str = "normal",
        deadline: float | None = None,
        **options: Unpack[OptionArgs],
    ) -> Ticket:
        """A text to speak -> its ticket, at once (a long text takes some ms to normalise). Options as in `synthesize`.

        priority: "interactive", "normal" or "bulk". deadline: seconds within which audio must begin, or it is Expired.
        Busy if there is no room for it, Loading, Draining; UsageError for what could never be said.
        """
        if priority not in RANKS:
            raise UsageError(f"priority {priority!r:.40}: there are {', '.join(RANKS)}")
        if deadline is not None and not (isinstance(deadline, int | float) and 0 < deadline < math.inf):
            raise UsageError(f"deadline = {deadline!r:.40} must be a number of seconds above 0")
        with self._changed:
            self._check_open()
            self._check_room()  # before any work
        job = self._batch.prepare(text, voice, priority=-RANKS[priority], keep=False, **options)
        its = need(self.tts, len(text), job.script.options)
        if self.memory is not None and (alone := total_bytes([its], self.width)) > self.memory:
            raise UsageError(
                f"the text needs about {alone >> 20} MiB, and there are {self.memory >> 20} MiB for all requests: "
                "send it in parts"
            )
        with self._changed:
            self._check_open()
            self._check_room(its)
            ticket = Ticket(job, priority, deadline, its, self.leave)
            self._waiting.append(ticket)
            self._held.add(ticket)
            self._changed.notify_all()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Nobody waits for it any more."""
        with self._changed:
            job = ticket.job
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif job is not None:
                job.cancel()
            if ticket.end():
                self.counts["cancelled"] += 1

    def drain(self, timeout: float | None = None) -> bool:
        """Running requests finish, waiting ones end with Draining, as do new ones -> did all end within `timeout` s?

        Those that did not are ended. Can be called again.
        """
        self.stop_taking()
        if not self._thread.is_alive():
            return True
        self._thread.join(timeout)
        in_time = not self._thread.is_alive()
        if not in_time:
            self.abandon()
            self._thread.join(10.0)
        return in_time

    def abandon(self) -> None:
        """Running requests end with Draining, before the next step."""
        for ticket in list(self._running.values()):
            self._end(ticket, error=Draining("the server ends; send it to another one"))

    def stop_taking(self) -> None:
        """The first half of `drain`: whoever waits is told so."""
        with self._changed:
            self.draining, waiting, self._waiting = True, self._waiting, []
            self._changed.notify_all()
        for ticket in waiting:
            self._end(ticket, error=Draining("the server ends; send it to another one", 5))

    def stats(self) -> dict[str, Any]:
        """What is going on, as numbers and words for JSON."""
        with self._changed:
            waiting = [t.priority for t in self._waiting]
            return {
                "ready": self.ready,
                "draining": self.draining,
                "waiting": len(waiting),
                "waiting_by_priority": {name: waiting.count(name) for name in RANKS},
                "running": len(self._running),
                "width": self.width,
                "queue": self.queue,
                "memory_estimate_bytes": self._held_bytes(),
                "memory_limit_bytes": self.memory,
                **self.counts,
                "audio_seconds": self.audio_seconds,
                "busy_seconds": self.busy_seconds,
                "rtf": self.busy_seconds / self.audio_seconds if self.audio_seconds else None,
            }

    # ------------------------------------------------------------ room

    def _check_open(self) -> None:
        if self.failure is not None:
            raise ModelError(f"the model could not be warmed up: {self.failure}")
        if self.draining:
            raise Draining("the server ends; send it to another one", 5)
        if not self.ready:
            raise Loading("the model is being loaded; ask again soon", 2)

    def _check_room(self, its: Need | None = None) -> None:
        if len(self._waiting) + len(self._running) >= self.queue + self.width:
            self.counts["refused"] += 1
            raise Busy(f"{len(self._waiting)} requests wait already; ask again later", self._retry_after())
        if self.memory is not None and self._held_bytes(its) > self.memory:
            self.counts["refused"] += 1
            raise Busy("the requests taken so far need all the memory there is; ask again later", self._retry_after())

    def _held_bytes(self, its: Need | None = None) -> int:
        """What all requests that are held need, and this one beside them."""
        needs = [held for ticket in self._held if (held := ticket.need) is not None]
        return total_bytes([*needs, its] if its is not None else needs, self.width)

    def _retry_after(self) -> int:
        """Seconds until one of those who wait now has its turn, roughly."""
        each = sum(self._recent) / len(self._recent) if self._recent else 1.0
        return max(1, min(MOST_RETRY, math.ceil(each * (len(self._waiting) + 1) / self.width)))

    # ------------------------------------------------------------ the thread

    def _work(self) -> None:
        try:
            self.tts.warm_up()
        except Exception as error:
            log_failure("warm-up failed", error)
            self.failure = error
            return
        self.ready = True
        while self._wait():
            try:
                self._turn()
            except Exception as error:  # a fault of ours: those who speak are told, the others go on
                log_failure("a step failed", error)
                self._start_anew(error)
        self.ready = False

    def _wait(self) -> bool:
        """Until there is something to do -> or is it the end?"""
        with self._changed:
            while not self._waiting and not self._running and not self.draining:
                self._changed.wait()
            return bool(self._waiting or self._running)

    def _turn(self) -> None:
        """Who has waited too long leaves, who has a place joins; one step; who is over leaves."""
        now = time.monotonic()
        for ticket in [*self._waiting, *self._running.values()]:
            if ticket.expires is not None and ticket.expires < now and ticket.first_audio is None:
                self._end(ticket, error=Expired("no audio within the request's deadline; ask again later", 1))
        self._begin(now)
        started = time.perf_counter()
        for job, wav in self._batch.step():
            self._hear(self._running[job], wav)
        self.busy_seconds += time.perf_counter() - started
        for job, ticket in list(self._running.items()):
            if job.done:
                self._end(ticket, job.speech, job.error)
                del self._running[job]

    def _begin(self, now: float) -> None:
        """Places for those whose turn it is."""
        while True:
            with self._changed:
                queue = [(ticket.priority, now - ticket.arrived) for ticket in self._waiting]
                if (place := turn(queue, len(self._running), self.width)) is None:
                    return
                ticket = self._waiting.pop(place)
                if (job := ticket.job) is None:  # its caller has left this moment
                    continue
                self._running[job] = ticket
            ticket.begun = now
            self.waited.add(now - ticket.arrived)
            try:
                self._batch.join(job)
            except Exception as error:
                del self._running[job]
                self._end(ticket, error=error)

    def _hear(self, ticket: Ticket, wav: Any) -> None:
        if ticket.ended is not None:
            return
        first = ticket.first_audio is None
        ticket.put(wav)
        if first and ticket.first_audio is not None:
            self.first_audio.add(ticket.first_audio - ticket.arrived)
        self.audio_seconds += len(wav) / self.tts.sample_rate

    def _end(self, ticket: Ticket, speech: Any = None, error: Exception | None = None) -> None:
        """It is over, one way or the other."""
        kind = "finished" if speech is not None else "expired" if isinstance(error, Expired) else "failed"
        with self._changed:  # whoever is told finds it counted
            job = ticket.job
            if not ticket.end(speech, error):
                return
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self.counts[kind] += 1
        if speech is None and job is not None:
            job.cancel()
        if speech is not None and ticket.begun is not None and ticket.ended is not None:
            self.took.add(ticket.ended - ticket.arrived)
            self._recent.append(ticket.ended - ticket.begun)

    def _start_anew(self, error: Exception) -> None:
        """Nobody knows how far they are: all that speak end, and a new batch takes their place."""
        self._batch.close(ModelError("the step failed: say it again"))
        for ticket in list(self._running.values()):
            self._end(ticket, error=error)
        self._running.clear()
        self._batch = self.tts.batch(self.width)
