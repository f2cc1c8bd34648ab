"""Runtime: where one model computes. Its operations, its threads, and the steps it has captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sopro_np.ops import using
from sopro_np.ops.blas import blas_threads
from sopro_np.ops.native.capture import Graphs, capturing
from sopro_np.ops.native.threads import cores, on_threads

Result = TypeVar("Result")


class Runtime:
    """`with runtime():` everything inside is computed by the operations that packed the model's weights.

    ops: their name; threads: at most so many compute (None: as many as there are). Any number of Python threads may be
    inside at once. Not to be left open over a `yield`.
    """

    def __init__(self, ops: str, threads: int | None) -> None:
        self.ops, self.threads = ops, threads
        self._graphs = Graphs()
        self._helpers: ThreadPoolExecutor | None = None

    @contextmanager
    def __call__(self, one_row: bool = False, threads: int | None = None) -> Iterator[None]:
        """`one_row`: products of single rows, for which BLAS is better off with one thread. `threads`: only here."""
        threads = threads or self.threads
        with using(self.ops):
            if self.ops == "native":
                with on_threads(threads), capturing(self._graphs):
                    yield
            else:
                with blas_threads(1 if one_row else threads):
                    yield

    @property
    def width(self) -> int:
        """How many pieces of work `side_by_side` does at once: one with NumPy, whose BLAS has threads of its own."""
        return (self.threads or cores()) if self.ops == "native" else 1

    def side_by_side(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Independent pieces of work, each on a thread of its own; a single one has all threads.

        Small products gain little from a second thread; two utterances of them do. Bits do not depend on it.
        """
        if len(tasks) < 2 or self.width < 2:
            results = []
            for task in tasks:
                with self():
                    results.append(task())
            return results
        if self._helpers is None:
            self._helpers = ThreadPoolExecutor(self.width - 1, thread_name_prefix="sopro_np")

        def alone(task: Callable[[], Result]) -> Result:
            with self(threads=1):
                return task()

        others = [self._helpers.submit(alone, task) for task in tasks[1:]]
        first = alone(tasks[0])
        return [first, *(other.result() for other in others)]

    def close(self) -> None:
        """Give captured steps and helpers back; the next use makes them again."""
        self._graphs.forget()
        if self._helpers is not None:
            self._helpers.shutdown()
            self._helpers = None
