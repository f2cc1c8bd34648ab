"""One sentence in a batch: its state machines, what came of them, and how to stop it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np

from sopro_np.errors import ModelError
from sopro_np.session import AudioStream, Session
from sopro_np.speech import Speech


class Outcome:
    """How a job in a batch comes to its end. `done`: nothing more will come; then `speech`, or `error`, or neither: it
    was removed. It ends once: by itself, or because another thread removes it.
    """

    def __init__(self) -> None:
        self.done = False
        self.speech: Speech | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self._ending = threading.Lock()

    def cancel(self) -> None:
        """Stop before the next step; from any thread."""
        self.cancelled = True

    def fail(self, error: Exception) -> None:
        """It ends with this error."""
        self.end(error=give_error(error))

    def end(self, speech: Speech | None = None, error: Exception | None = None) -> None:
        """Nothing more will come, and all memory of the work returns; the first end counts."""
        with self._ending:
            if not self.done:
                self.speech, self.error, self.done = speech, error, True
                self._forget()

    def _forget(self) -> None:
        """Give up all that was needed on the way."""

    def __reduce__(self) -> NoReturn:
        raise ModelError("a job lives where it is stepped: pickle its speech, or the Sopro and the text")


class SentenceJob(Outcome):
    """One utterance in a batch; an Outcome.

    `priority`: larger goes first, as long as it has no audio yet.
    """

    def __init__(self, session: Session, audio: AudioStream, priority: int = 0) -> None:
        super().__init__()
        self.priority, self.chunk_frames = priority, session.options.chunk_frames
        self.silent = True  # no audio yet
        self.turn = 0  # when its last piece of NAR and codec work was done
        self._doing: tuple[Session, AudioStream] | None = (session, audio)
        self._wavs: list[np.ndarray] = []

    @property
    def session(self) -> Session | None:
        """The utterance, until it is done."""
        doing = self._doing  # another thread may remove the job at any moment
        return None if doing is None else doing[0]

    @property
    def audio(self) -> AudioStream | None:
        """What makes it sound, until it is done."""
        doing = self._doing
        return None if doing is None else doing[1]

    @property
    def due(self) -> bool:
        """Is there NAR or codec work to do?"""
        if (doing := self._doing) is None:
            return False
        session, audio = doing
        return session.due or audio.due or session.finish_reason is not None

    def add_rows(self, rows: np.ndarray) -> None:
        """Finished code rows (n, Q): to the codec, and to what will be said to have been spoken."""
        if (doing := self._doing) is not None:
            doing[1].push(rows)

    def add_wav(self, wav: np.ndarray) -> None:
        """A chunk of audio; a copy is kept, for whoever gets it may change it."""
        self._wavs.append(wav.copy())
        self.silent = False

    def finish(self) -> None:
        """`done`, if nothing more can come."""
        if (doing := self._doing) is None:
            return
        session, audio = doing
        audio.last = session.finish_reason is not None and not session.due
        if audio.last and not audio.due:
            assert session.finish_reason is not None and session.options.seed is not None
            wav = np.concatenate([np.zeros(0, np.float32), *self._wavs])
            self.end(Speech(wav, audio.rows, session.finish_reason, session.options.seed, len(audio.rows)))

    def _forget(self) -> None:
        self._doing, self._wavs = None, []


def give_error(error: Exception) -> Exception:
    """An error to be kept. (Where it came from would keep the whole step's memory: that goes to the log.)"""
    logging.getLogger("sopro_np").debug("a job failed", exc_info=error)
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


@contextmanager
def failing(*jobs: SentenceJob) -> Iterator[None]:
    """What goes wrong inside is the end of these jobs, and of no others."""
    try:
        yield
    except Exception as error:
        for job in jobs:
            job.fail(error)
