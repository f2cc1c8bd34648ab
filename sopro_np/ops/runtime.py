"""Runtime: where one model computes. Its operations, its threads, and the steps it has captured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sopro_np.cores import usable
from sopro_np.errors import ModelError
from sopro_np.ops import using
from sopro_np.ops.blas import blas_threads
from sopro_np.ops.native.capture import Graphs, capturing
from sopro_np.ops.native.threads import on_threads
from sopro_np.precision import precise

Result = TypeVar("Result")
CLOSED = "this model was closed; load it again"


class Runtime:
    """`with runtime():` everything inside is computed by the operations that packed the model's weights.

    ops: their name; threads: at most so many compute (None: as many as there are); precision: of what integers multiply
    (precision.py). Any number of Python threads may be inside at once. Not to be left open over a `yield`.
    """

    def __init__(self, ops: str, threads: int | None, precision: str = "fast") -> None:
        self.ops, self.threads, self.precision = ops, threads, precision
        self._graphs = Graphs()
        self._closed = False
        self._helpers: tuple[int, ThreadPoolExecutor] | None = None  # of which process
        self._whole = self  # whose steps, helpers and end all precisions share
        self._others = {precision: self}

    def at(self, precision: str | None) -> Runtime:
        """The same model at another precision; None: at its own."""
        known = self._whole._others
        wanted = precision or self._whole.precision
        if wanted not in known:
            other = Runtime(self.ops, self.threads, wanted)
            other._whole, other._graphs = self._whole, self._whole._graphs
            known.setdefault(wanted, other)
        return known[wanted]

    @contextmanager
    def __call__(self, one_row: bool = False, threads: int | None = None) -> Iterator[None]:
        """`one_row`: products of single rows, for which BLAS is better off with one thread. `threads`: only here."""
        if self._whole._closed:
            raise ModelError(CLOSED)
        threads = threads or self.threads
        with using(self.ops), precise(self.precision):
            if self.ops == "native":
                with on_threads(threads), capturing(self._graphs):
                    yield
            else:
                with blas_threads(1 if one_row else threads):
                    yield

    @property
    def width(self) -> int:
        """How many pieces of work `side_by_side` does at once: one with NumPy, whose BLAS has threads of its own."""
        return (self.threads or usable()) if self.ops == "native" else 1

    def side_by_side(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Independent pieces of work, each on a thread of its own; one that is left over has all threads.

        Small products gain little from a second thread; two utterances of them do. Bits do not depend on it.
        """
        count = len(tasks) - len(tasks) % self.width if self.width > 1 else 0
        if len(tasks) - count > 1 and self.width > 1:
            count = len(tasks)
        results: dict[int, Result] = {}
        waiting = iter(range(count))  # `next` of it is atomic

        def work() -> None:
            for i in waiting:
                with self(threads=1):
                    results[i] = tasks[i]()

        if count:
            helpers = self._whole._executor()
            others = [helpers.submit(work) for _ in range(self.width - 1)]
            work()
            for other in others:
                other.result()
        for i in range(count, len(tasks)):
            with self():
                results[i] = tasks[i]()
        return [results[i] for i in range(len(tasks))]

    def _executor(self) -> ThreadPoolExecutor:
        """The helpers; a forked process has none of its parent's threads."""
        if self._helpers is None or self._helpers[0] != os.getpid():
            self._helpers = os.getpid(), ThreadPoolExecutor(self.width - 1, thread_name_prefix="sopro_np")
        return self._helpers[1]

    def close(self) -> None:
        """Give captured steps and helpers back; any use is an error from now on."""
        self._closed = True
        self._graphs.forget()
        helpers, self._helpers = self._helpers, None
        if helpers is not None and helpers[0] == os.getpid():
            helpers[1].shutdown()
