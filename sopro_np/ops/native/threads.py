"""Threads: how many compute, and a pool of workers that spend their time inside one native call.

The leader publishes a command list on a job board (kernels/run.py); workers that are awake take their share, and a
worker that sleeps is woken, but never waited for. After some idle time inside the native call a worker returns to
Python and sleeps, so an idle program costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from sopro_np.cores import usable
from sopro_np.ops.native.packs import Kernels

MOST_CALLS = 1024  # of one list
PATIENCE = 20_000  # idle looks (about 40 ns each) before a worker goes to sleep
_threads: ContextVar[int | None] = ContextVar("sopro_np_threads", default=None)


@contextmanager
def on_threads(threads: int | None) -> Iterator[None]:
    """At most so many threads inside this block (None: one per core this process may use)."""
    token = _threads.set(threads)
    try:
        yield
    finally:
        _threads.reset(token)


def threads() -> int:
    """How many threads compute here."""
    return _threads.get() or usable()


class ThreadPool:
    """A leader (whoever calls `run`) and threads - 1 workers."""

    def __init__(self, kernels: Kernels, threads: int) -> None:
        self.kernels = kernels
        board = np.zeros(256 + 128 * (MOST_CALLS + 1), np.uint8)
        self._board = board  # lives as long as the process: a worker may look at it at any time
        self._address = board.ctypes.data + -board.ctypes.data % 128
        self._lock = threading.Lock()
        self._workers = [_Worker(kernels, self._address, i % 2 == 0) for i in range(threads - 1)]

    def run(self, program: int, count: int) -> None:
        """Work off a list of calls; alone if another thread has the workers."""
        if not self._lock.acquire(blocking=False):
            self.kernels.run(program, count, 0)
            return
        try:
            for worker in self._workers:
                if not worker.awake:
                    worker.wake()
            for first in range(0, count, MOST_CALLS):
                self.kernels.run(program + 24 * first, min(count - first, MOST_CALLS), self._address)
        finally:
            self._lock.release()


class _Worker:
    """back: does it begin with the last piece of a call, as every second thread?"""

    def __init__(self, kernels: Kernels, board: int, back: bool) -> None:
        self.awake = False
        self._bell = threading.Event()
        self._kernels, self._board, self._back = kernels, board, back
        threading.Thread(target=self._live, name="sopro_np worker", daemon=True).start()

    def wake(self) -> None:
        self._bell.set()

    def _live(self) -> None:
        while True:
            self._bell.wait()
            self._bell.clear()
            self.awake = True
            self._kernels.worker(self._board, PATIENCE, self._back)
            self.awake = False


_pools: dict[int, ThreadPool] = {}
_making = threading.Lock()


def pool(kernels: Kernels, threads: int) -> ThreadPool:
    """The pool of that size, made when first asked for."""
    with _making:
        if threads not in _pools:
            _pools[threads] = ThreadPool(kernels, threads)
        return _pools[threads]
