"""Tasks spoken by the workers of a Dask cluster: they compute, this process writes; no folder has to be shared.

A worker speaks a group of tasks in one batch and sends back their samples; a long text comes some sentences at a time.
What a lost worker was doing is given to others by Dask's scheduler; whoever says it, the bytes are the same.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopro_np.bulk.key import file_digest
from sopro_np.bulk.local import Sink, speak
from sopro_np.bulk.outputs import LONG, Said
from sopro_np.bulk.plan import Task
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import BulkError, SoproWarning, UsageError
from sopro_np.files import cache_dir
from sopro_np.locate import EMBEDDED
from sopro_np.longform import Heard
from sopro_np.version import __version__

SLICE, LARGEST_SLICE = 64, 512  # sentences of a text that come at once: first and last time, doubled in between
ROUNDS = 2  # so often a task alone may end its workers (each time Dask has tried several) before it is given up
PATIENCE = 20  # seconds for the scheduler to answer
ADDRESS = re.compile(r"(?:(?:tcp|tls|ucx|wss?)://)?[^\s/]+:([0-9]{1,5})")


@dataclass(frozen=True)
class Model:
    """The model that workers are to use: the file of this path, or any of theirs that has this SHA-256 and size."""

    path: str
    digest: str
    size: int
    ops: str
    threads: int | None
    version: str = __version__


@dataclass(frozen=True)
class Parcel:
    """A task on its way to a worker. after: what was said of it before."""

    task: Task
    after: Heard | None
    rounds: int = 0  # how often it ended its workers


@dataclass(frozen=True)
class Answer:
    """What a worker has said: samples, 16 bit; then one of said (all), heard (up to there), problem (nothing)."""

    data: bytes
    said: Said | None
    heard: Heard | None
    problem: str | None


# ---------------------------------------------------------------- in a worker

_alone = threading.Lock()  # a group at a time: its batch has all threads
_ready: dict[Model, Sopro] = {}  # the model of this process, warm


class Collected:
    """A sink that keeps everything for the answer."""

    def __init__(self, after: Heard | None) -> None:
        self.after = after
        self._data: list[bytes] = []
        self._said: Said | None = None
        self._heard: Heard | None = None
        self._problem: str | None = None

    def write(self, data: bytes) -> None:
        """Samples that follow."""
        self._data.append(data)

    def mark(self, heard: Heard) -> bool:
        """Enough for now?"""
        self._heard = heard
        before = len(self.after.sentences) if self.after else 0
        return len(heard.sentences) - before >= min(max(SLICE, before), LARGEST_SLICE)

    def finish(self, said: Said) -> None:
        """That was all."""
        self._said = said

    def fail(self, problem: str) -> None:
        """It cannot be spoken."""
        self._problem = problem

    def close(self) -> None:
        """Nothing is open."""

    def answer(self) -> Answer:
        """For the other side."""
        if self._problem is not None:
            return Answer(b"", None, None, self._problem)
        return Answer(b"".join(self._data), self._said, None if self._said else self._heard, None)


def speak_group(model: Model, parcels: list[Parcel], options: Mapping[str, Any]) -> list[Answer]:
    """Say them together -> an answer for each. BulkError if this worker cannot have the model."""
    sinks = {parcel.task.number: Collected(parcel.after) for parcel in parcels}
    with _alone:
        tasks = [parcel.task for parcel in parcels]
        speak(_speaker(model), tasks, options, len(tasks), lambda task: sinks[task.number])
    return [sinks[parcel.task.number].answer() for parcel in parcels]


def _speaker(model: Model) -> Sopro:
    """The model, opened and warm: once in a process."""
    if model not in _ready:
        for other in _ready.values():
            other.close()
        _ready.clear()
        if model.version != __version__:
            raise BulkError(f"worker on {_host()}: has sopro_np {__version__}, not {model.version}: install the same")
        tts = open_model(_find(model), model.threads, model.ops)
        tts.warm_up()
        _ready[model] = tts
    return _ready[model]


def _find(model: Model) -> Path:
    try:
        cached = sorted(cache_dir().glob("*.safetensors"))
    except (UsageError, OSError):  # no home
        cached = []
    for path in (Path(model.path), EMBEDDED, Path(os.environ.get("SOPRO_NP_MODEL") or "."), *cached):
        if path.is_file() and path.stat().st_size == model.size and file_digest(path) == model.digest:
            return path
    raise BulkError(
        f"worker on {_host()}: has no model with the SHA-256 {model.digest[:12]}..., neither as {model.path} nor in "
        f"its cache folder: copy it there"
    )


def _host() -> str:
    return socket.gethostname()


# ---------------------------------------------------------------- in this process


def groups(tasks: Iterable[Task], width: int) -> Iterator[list[Task]]:
    """Texts of about the same length together, up to `width`, so that they end together; long ones alone, and first."""
    waiting = sorted(tasks, key=lambda task: (-len(task.text), task.number))
    while waiting:
        count = 1 if len(waiting[0].text) >= LONG else width
        yield waiting[:count]
        del waiting[:count]


def speak_on(
    address: str,
    model: Model,
    tasks: Iterable[Task],
    options: Mapping[str, Any],
    width: int,
    sink: Callable[[Task], Sink],
    tell: Callable[[int], None] = lambda characters: None,
) -> None:
    """As `speak`, on the cluster whose scheduler has this address (tcp://host:8786).

    BulkError if it does not answer or goes away, or a worker lacks the model: what is written stays, call again.
    UsageError for what is no address.
    """
    found = ADDRESS.fullmatch(address)  # Dask would tell as well, and then wait for nobody at the end of the process
    if not found or not 0 < int(found[1]) < 1 << 16:
        raise UsageError(f"--scheduler {address!r:.80}: an address is needed, as tcp://localhost:8786")
    try:
        from distributed import Client
    except ImportError:
        raise BulkError("--scheduler needs Dask: pip install distributed, here and on the workers") from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise BulkError(f"{address}: no Dask scheduler answers there ({error or 'it timed out'})") from None
    with client, _quiet():
        if not client.nthreads():
            warnings.warn(f"{address}: has no workers yet; waiting for some", SoproWarning, stacklevel=2)
        Dispatch(client, address, model, options, sink).run(groups(tasks, width), tell)


@contextmanager
def _quiet() -> Iterator[None]:
    """What Dask's client logs of connections that are lost is said once, and in words."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


class Dispatch:
    """Groups on their way: as many as keep all workers busy, also those that come later."""

    def __init__(
        self, client: Any, address: str, model: Model, options: Mapping[str, Any], sink: Callable[[Task], Sink]
    ) -> None:
        self._client, self._address, self._model, self._options = client, address, model, dict(options)
        self._sink = sink
        self._sinks: dict[int, Sink] = {}  # of tasks on their way
        self._away: dict[Any, list[Parcel]] = {}  # future -> what it is to answer
        self._again: deque[list[Parcel]] = deque()

    def run(self, waiting: Iterator[list[Task]], tell: Callable[[int], None]) -> None:
        """Until all is said."""
        from distributed import as_completed

        futures = as_completed([], loop=self._client.loop)
        try:
            self._send(waiting, futures)
            for future in futures:
                self._take(future, self._away.pop(future))
                tell(0)
                self._send(waiting, futures)
        finally:
            for sink in self._sinks.values():
                sink.close()

    def _send(self, waiting: Iterator[list[Task]], futures: Any) -> None:
        try:
            most = 2 * max(1, sum(self._client.nthreads().values()))
        except OSError:  # Dask's for a connection that is lost, or cannot be made again
            raise self._gone() from None
        while len(self._away) < most:
            parcels = self._again.popleft() if self._again else self._open(next(waiting, []))
            if not parcels:
                return
            future = self._client.submit(speak_group, self._model, parcels, self._options, pure=False)
            self._away[future] = parcels
            futures.add(future)

    def _open(self, tasks: list[Task]) -> list[Parcel]:
        for task in tasks:
            self._sinks[task.number] = self._sink(task)
        return [Parcel(task, self._sinks[task.number].after) for task in tasks]

    def _take(self, future: Any, parcels: list[Parcel]) -> None:
        from distributed.client import CancelledError
        from distributed.scheduler import KilledWorker

        try:  # not by its status: the scheduler can go away between the look and the answer
            answers = future.result()
        except CancelledError:
            raise self._gone() from None
        except KilledWorker:
            self._lost(parcels)
        except BulkError:
            raise
        except Exception as error:
            raise BulkError(f"a worker failed: {error!r:.400}") from error
        else:
            for parcel, answer in zip(parcels, answers, strict=True):
                self._hear(parcel, answer)

    def _gone(self) -> BulkError:
        return BulkError(f"{self._address}: the scheduler has gone away; call again to go on")

    def _lost(self, parcels: list[Parcel]) -> None:
        if len(parcels) > 1:  # which one was it?
            self._again += [[parcel] for parcel in parcels]
        elif parcels[0].rounds + 1 < ROUNDS:
            self._again.append([Parcel(parcels[0].task, parcels[0].after, parcels[0].rounds + 1)])
        else:
            problem = "every worker that spoke it was lost: do they have memory enough?"
            self._sinks.pop(parcels[0].task.number).fail(problem)

    def _hear(self, parcel: Parcel, answer: Answer) -> None:
        number = parcel.task.number
        sink = self._sinks[number]
        if answer.problem is not None:
            self._sinks.pop(number).fail(answer.problem)
            return
        sink.write(answer.data)
        if answer.said is not None:
            self._sinks.pop(number).finish(answer.said)
            return
        assert answer.heard is not None
        sink.mark(answer.heard)
        self._again.append([Parcel(parcel.task, answer.heard)])
