"""Threads that help: Python threads which spend their time inside one native call.

The leader publishes a list of kernel calls on a board (kernels/run.py); helpers that are awake take their share,
and a helper that sleeps is woken, but never waited for. After some idle time inside the native call a helper
returns to Python and sleeps, so an idle program costs nothing.
"""

from __future__ import annotations

import threading

import numpy as np

from sopro_np.ops.native.door import Kernels

MOST_CALLS = 1024  # of one list
PATIENCE = 20_000  # idle looks (about 40 ns each) before a helper goes to sleep


class Team:
    """A leader (whoever calls `run`) and threads - 1 helpers."""

    def __init__(self, kernels: Kernels, threads: int) -> None:
        self.kernels = kernels
        board = np.zeros(256 + 128 * (MOST_CALLS + 1), np.uint8)
        self._board = board  # lives as long as the process: a helper may look at it at any time
        self._address = board.ctypes.data + -board.ctypes.data % 128
        self._lock = threading.Lock()
        self._helpers = [_Helper(kernels, self._address) for _ in range(threads - 1)]

    def run(self, program: int, count: int) -> None:
        """Work off a list of calls; alone if another thread has the helpers."""
        if not self._lock.acquire(blocking=False):
            self.kernels.run(program, count, 0)
            return
        try:
            for helper in self._helpers:
                if not helper.awake:
                    helper.wake()
            for first in range(0, count, MOST_CALLS):
                self.kernels.run(program + 24 * first, min(count - first, MOST_CALLS), self._address)
        finally:
            self._lock.release()


class _Helper:
    def __init__(self, kernels: Kernels, board: int) -> None:
        self.awake = False
        self._bell = threading.Event()
        self._kernels, self._board = kernels, board
        threading.Thread(target=self._live, name="sopro_np helper", daemon=True).start()

    def wake(self) -> None:
        self._bell.set()

    def _live(self) -> None:
        while True:
            self._bell.wait()
            self._bell.clear()
            self.awake = True
            self._kernels.help(self._board, PATIENCE)
            self.awake = False


_teams: dict[int, Team] = {}
_making = threading.Lock()


def team(kernels: Kernels, threads: int) -> Team:
    """The team of that size, made when first asked for."""
    with _making:
        if threads not in _teams:
            _teams[threads] = Team(kernels, threads)
        return _teams[threads]
