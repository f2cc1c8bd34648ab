"""Where operations become lists of kernel calls: written down, run at once, and kept if somebody records.

A step of the model that is repeated with arrays of the same shapes is the same list of calls on the same
addresses every time. `Recording` runs the layers once, keeps the list, and from then on one native call does the
whole step. The layers stay the only description of the model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from struct import Struct
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from sopro_np.errors import FormatError, OpsError
from sopro_np.ops.abi import FIELDS, KERNELS
from sopro_np.ops.native.arena import Arena
from sopro_np.ops.native.door import Kernels, kernels
from sopro_np.ops.native.team import team

_LAYOUTS = {name: Struct(f"={len(fields.split())}q") for name, fields in FIELDS.items()}
_ENTRY = Struct("=3q")
_threads: ContextVar[int | None] = ContextVar("sopro_np_threads", default=None)
PROBLEMS = {
    1: "an activation is NaN or infinite: the weights or the input are broken",
    2: "an id lies outside its table: the codes or the weights are broken",
}


class Call(NamedTuple):
    """A kernel call as `profiled` saw it."""

    kernel: str
    values: tuple[int, ...]
    seconds: float

    @property
    def block(self) -> str:
        """Whose fields it takes."""
        return KERNELS[self.kernel]

    @property
    def fields(self) -> dict[str, int]:
        """The argument block by name."""
        return dict(zip(FIELDS[self.block].split(), self.values, strict=True))


_names: dict[int, str] = {}  # address of a kernel -> its name
_calls: list[Call] | None = None  # while somebody profiles


@contextmanager
def profiled() -> Iterator[list[Call]]:
    """Inside this block every kernel call of this process is run, timed and noted by itself."""
    global _calls
    if _calls is not None:
        raise OpsError("a profile inside a profile")
    calls: list[Call] = []
    _calls = calls
    try:
        yield calls
    finally:
        _calls = None


@contextmanager
def on_threads(threads: int | None) -> Iterator[None]:
    """At most so many threads inside this block (None: one per core this process may use)."""
    token = _threads.set(threads)
    try:
        yield
    finally:
        _threads.reset(token)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """How many threads compute here."""
    return _threads.get() or cores()


class Program:
    """A list of kernel calls: their argument blocks, the table that `run` reads, and a cell for problems."""

    def __init__(self, room: int) -> None:
        self._blocks = np.zeros(room // 8, np.int64)
        self._table = np.zeros(3 * (room // 64) + 8, np.int64)
        self._into, self._entries = self._blocks.data.cast("B"), self._table.data.cast("B")
        self._base, self.table = self._blocks.ctypes.data, self._table.ctypes.data + 64
        self.status_at = self._table.ctypes.data
        self.count = self._used = 0

    def clear(self) -> None:
        self.count = self._used = 0

    def add(self, code: int, layout: Struct, pieces: int, fields: tuple[int, ...]) -> None:
        if self._used + layout.size > len(self._into) or 64 + 24 * (self.count + 1) > len(self._entries):
            raise OpsError("a list of kernel calls is too long")
        layout.pack_into(self._into, self._used, pieces, *fields)
        _ENTRY.pack_into(self._entries, 64 + 24 * self.count, code, self._base + self._used, pieces)
        self._used += layout.size
        self.count += 1

    def run(self, library: Kernels, first: int = 0) -> None:
        """Work off the calls from `first` on."""
        n = threads()
        if _calls is not None:
            self._run_profiled(library, first, _calls)
        elif n == 1:
            library.run(self.table + 24 * first, self.count - first, 0)
        else:
            team(library, n).run(self.table + 24 * first, self.count - first)
        if self._table[0]:
            problem, self._table[0] = int(self._table[0]), 0
            raise FormatError(PROBLEMS[problem])

    def _run_profiled(self, library: Kernels, first: int, calls: list[Call]) -> None:
        n = threads()
        run = team(library, n).run if n > 1 else lambda at, count: library.run(at, count, 0)
        for i in range(first, self.count):
            start = perf_counter()
            run(self.table + 24 * i, 1)
            seconds = perf_counter() - start
            code, at, _ = _ENTRY.unpack_from(self._entries, 64 + 24 * i)
            kernel = _names[code]
            values = _LAYOUTS[KERNELS[kernel]].unpack_from(self._into, at - self._base)
            calls.append(Call(kernel, values, seconds))


class Desk(threading.local):
    """One per thread: an arena, and the list of calls that is being written."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self.arena, self.program = Arena(), Program(1 << 14)
        self.recording = False
        self._done = 0  # calls of a recording that were run already

    @property
    def kernels(self) -> Kernels:
        return kernels()

    def empty(self, *shape: int) -> tuple[np.ndarray, int]:
        """Room for a result, float32, and its address."""
        array, address = self.arena.lend(shape)
        return (array.view(Recorded) if self.recording else array), address

    def scratch(self, size: int) -> tuple[Any, int]:
        """So many bytes for the time until `go` has returned; keep the first value until then."""
        return self.arena.lend((1 << max(size - 1, 1).bit_length(),), np.uint8)  # few sizes, or many blocks would idle

    def hold(self, array: np.ndarray) -> None:
        """Keep a small array that a call refers to: until `go` the caller does, a recording needs it for good."""
        if self.recording:
            self.arena.held.append(array)

    def call(self, kernel: str, pieces: int, *fields: int) -> None:
        """Put a call on the list, with its fields (ops/abi.py) behind the number of pieces."""
        code = self._codes.get(kernel)
        if code is None:
            code = self._codes[kernel] = self.kernels.address(kernel)
            _names[code] = kernel
        self.program.add(code, _LAYOUTS[KERNELS[kernel]], pieces, fields)

    def go(self) -> None:
        """Run what was put on the list since the last time; a recording keeps it."""
        program = self.program
        if self.recording:
            program.run(self.kernels, self._done)
            self._done = program.count
            return
        try:
            program.run(self.kernels)
        finally:
            program.clear()

    @contextmanager
    def record(self, program: Program, arena: Arena) -> Iterator[None]:
        """Inside this block calls go to that list, and results into that arena."""
        if self.recording:
            raise OpsError("a recording inside a recording")
        before = self.program, self.arena
        self.program, self.arena, self.recording, self._done = program, arena, True, 0
        try:
            yield
        finally:
            (self.program, self.arena), self.recording = before, False


class Recording:
    """A function of arrays, recorded at its first call and replayed at the next ones."""

    def __init__(self, function: Callable[..., np.ndarray]) -> None:
        self._function = function  # also keeps alive the weights and states whose addresses were noted
        self._inputs: list[np.ndarray] = []
        self._result: np.ndarray | None = None
        self._arena, self._program = Arena(), Program(1 << 18)

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        if self._result is None:
            self._inputs = [np.array(a) for a in arrays]
            self._program.clear()
            with DESK.record(self._program, self._arena):
                self._result = self._function(*(a.view(Recorded) for a in self._inputs)).view(np.ndarray)
            return self._result.copy()
        for mine, given in zip(self._inputs, arrays, strict=True):
            if mine.shape != given.shape:
                raise OpsError(f"a recorded step got an array of shape {given.shape} instead of {mine.shape}")
            mine[...] = given
        self._program.run(DESK.kernels)
        return self._result.copy()


class Recorded(np.ndarray):
    """An array inside a recording: arithmetic that goes around the operations would be lost, so it is refused."""

    def __setitem__(self, key: Any, value: Any) -> None:
        raise OpsError("an assignment inside a recorded step: use an operation of sopro_np.ops")

    def copy(self, order: Any = "C") -> Any:
        raise OpsError("a copy inside a recorded step: use an operation of sopro_np.ops")

    def __array_function__(self, function: Any, kinds: Any, args: Any, more: Any) -> Any:
        raise OpsError(f"numpy.{function.__name__} inside a recorded step: use an operation of sopro_np.ops")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **more: Any) -> Any:
        raise OpsError(f"numpy.{ufunc.__name__} inside a recorded step: use an operation of sopro_np.ops")


def capture(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Record the first call, replay the next ones."""
    return Recording(function)


DESK = Desk()
