"""A request as its caller sees it: audio that arrives, how it ended, and a way to leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable

import numpy as np

from sopro_np.errors import SoproError
from sopro_np.longform import Job
from sopro_np.serve.estimate import Need
from sopro_np.speech import Speech


class Refused(SoproError):
    """A request that is not spoken now and may be sent again in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Refused):
    """More requests than the queue or the memory has room for."""


class Loading(Refused):
    """The model is not warm yet."""


class Draining(Refused):
    """The server is about to end and takes nothing more."""


class Expired(Refused):
    """No audio came before the request's deadline."""


class Ticket:
    """A request in a scheduler: waiting, then spoken, then over.

    `seed`: of the speech, given or drawn. `error`: what ended it, None while it goes on or if all went well. `speech`:
    after its end, without audio. Times are seconds on the monotonic clock; a clock that is set changes nothing.
    """

    def __init__(
        self, job: Job, priority: str, deadline: float | None, need: Need, leave: Callable[[Ticket], object]
    ) -> None:
        assert job.script.options.seed is not None
        self.seed: int = job.script.options.seed
        self.priority = priority
        self.need: Need | None = need  # of memory; None once nothing is held for it any more
        self.job: Job | None = job  # until it is over
        self.arrived = time.monotonic()
        self.expires = None if deadline is None else self.arrived + deadline
        self.begun: float | None = None  # when it took a place in the batch
        self.first_audio: float | None = None
        self.ended: float | None = None
        self.samples = 0
        self.error: Exception | None = None
        self.speech: Speech | None = None
        self._leave = leave
        self._audio: deque[np.ndarray] = deque()  # that nobody has taken yet
        self._ending = threading.Lock()
        self._notify: Callable[[], object] | None = None

    async def chunks(self) -> AsyncGenerator[np.ndarray, None]:
        """The audio as it comes, float32 (n,) in [-1, 1]; raises what ended it. Whoever stops listening cancels it."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        self._notify = lambda: loop.call_soon_threadsafe(news.set)
        try:
            while True:
                news.clear()  # before looking: what comes from now on sets it again
                over = self.ended is not None
                while self._audio:
                    yield self._audio.popleft()
                if over:
                    break
                await news.wait()
        finally:
            self._notify = None
            self.cancel()
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        """Nobody listens any more: its place is free before the next step. Harmless if it is over."""
        self._leave(self)
        self._audio.clear()
        self.need = None

    def put(self, wav: np.ndarray) -> None:
        """The next audio; from the scheduler's thread."""
        if self.first_audio is None:
            self.first_audio = time.monotonic()
        self.samples += len(wav)
        self._audio.append(wav)
        self._tell()

    def end(self, speech: Speech | None = None, error: Exception | None = None) -> bool:
        """It is over; the first end counts -> was this the first?"""
        with self._ending:
            if self.ended is not None:
                return False
            self.speech, self.error, self.job = speech, error, None
            self.ended = time.monotonic()
        self._tell()
        return True

    def _tell(self) -> None:
        if (notify := self._notify) is not None:
            try:
                notify()
            except RuntimeError:  # the loop of the listener is closed
                self._notify = None
