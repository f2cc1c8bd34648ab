"""Command lists: kernel calls written down as argument blocks, and worked off by one native call.

A list is three things in memory: the blocks (int64 fields, ops/abi.py), the table that `run` reads (kernel, block,
pieces), and a cell in which kernels note a problem.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from time import perf_counter
from typing import NamedTuple

import numpy as np

from sopro_np.errors import FormatError, OpsError
from sopro_np.ops.abi import FIELDS, KERNELS
from sopro_np.ops.native.packs import Kernels
from sopro_np.ops.native.threads import pool, threads
from sopro_np.ops.quant import NO_NUMBER

LAYOUTS = {name: Struct(f"={len(fields.split())}q") for name, fields in FIELDS.items()}
ENTRY = 3  # words of the table for one call
HEAD = 8  # words before the first one; the first word is for problems
PROBLEMS = {
    1: NO_NUMBER,
    2: "an id lies outside its table: the codes or the weights are broken",
}


class Call(NamedTuple):
    """A kernel call as `profiled` saw it. split: rows that it gave 16 bits."""

    kernel: str
    values: tuple[int, ...]
    seconds: float
    split: int = 0

    @property
    def block(self) -> str:
        """Whose fields it takes."""
        return KERNELS[self.kernel]

    @property
    def fields(self) -> dict[str, int]:
        """The argument block by name."""
        return dict(zip(FIELDS[self.block].split(), self.values, strict=True))


class Stopwatch:
    """Seconds spent inside native calls, of all threads."""

    seconds = 0.0


names: dict[int, str] = {}  # address of a kernel -> its name
_calls: list[Call] | None = None  # while somebody profiles
_watch: Stopwatch | None = None  # while somebody measures


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
def stopwatch() -> Iterator[Stopwatch]:
    """Inside this block the time of native calls is added up: what is left is Python's."""
    global _watch
    _watch = watch = Stopwatch()
    try:
        yield watch
    finally:
        _watch = None


class CommandList:
    """Kernel calls in order. `room`: bytes of argument blocks to begin with; it grows."""

    def __init__(self, room: int) -> None:
        self.count = self.used = 0  # calls; bytes of their blocks
        self._reserve(np.zeros(room // 8, np.int64), np.zeros(HEAD + ENTRY * (room // 64), np.int64))

    def _reserve(self, blocks: np.ndarray, table: np.ndarray) -> None:
        self.blocks, self._table = blocks, table
        self._into, self._entries = blocks.data.cast("B"), table.data.cast("B")
        self._base, self.table = blocks.ctypes.data, table.ctypes.data + 8 * HEAD
        self.status_at = table.ctypes.data

    def clear(self) -> None:
        self.count = self.used = 0

    def add(self, code: int, layout: Struct, pieces: int, fields: tuple[int, ...]) -> int:
        """Append a call; returns where its block begins, in words."""
        if self.used + layout.size > len(self._into) or 8 * (HEAD + ENTRY * (self.count + 1)) > len(self._entries):
            self._grow()
        first = self.used
        layout.pack_into(self._into, first, pieces, *fields)
        _ENTRY.pack_into(self._entries, 8 * (HEAD + ENTRY * self.count), code, self._base + first, pieces)
        self.used += layout.size
        self.count += 1
        return first // 8

    def _grow(self) -> None:
        """Twice the room. Blocks move, and so do the addresses of the cell for problems inside them."""
        old_base, old_status = self._base, self.status_at
        blocks, table = (np.concatenate([a, np.zeros_like(a)]) for a in (self.blocks, self._table))
        self._reserve(blocks, table)
        table[HEAD + 1 : HEAD + ENTRY * self.count : ENTRY] += self._base - old_base
        words = blocks[: self.used // 8]
        words[words == old_status] = self.status_at

    def run(self, library: Kernels, first: int = 0) -> None:
        """Work off the calls from `first` on."""
        start = perf_counter() if _watch is not None else 0.0
        n = threads()
        if _calls is not None:
            self._run_profiled(library, first, _calls)
        elif n == 1:
            library.run(self.table + 8 * ENTRY * first, self.count - first, 0)
        else:
            pool(library, n).run(self.table + 8 * ENTRY * first, self.count - first)
        if _watch is not None:
            _watch.seconds += perf_counter() - start
        if self._table[0]:
            problem, self._table[0] = int(self._table[0]), 0
            raise FormatError(PROBLEMS[problem])

    def _run_profiled(self, library: Kernels, first: int, calls: list[Call]) -> None:
        n = threads()
        run = pool(library, n).run if n > 1 else lambda at, count: library.run(at, count, 0)
        for i in range(first, self.count):
            start = perf_counter()
            run(self.table + 8 * ENTRY * i, 1)
            seconds = perf_counter() - start
            code, at, _ = _ENTRY.unpack_from(self._entries, 8 * (HEAD + ENTRY * i))
            kernel = names[code]
            values = LAYOUTS[KERNELS[kernel]].unpack_from(self._into, at - self._base)
            call = Call(kernel, values, seconds)
            if kernel == "quantise" and (fields := call.fields)["limit"]:
                scales = (ctypes.c_float * fields["rows"]).from_address(fields["low_scale"])
                call = call._replace(split=int(np.count_nonzero(scales)))
            calls.append(call)


_ENTRY = Struct(f"={ENTRY}q")
