"""Launcher: operations put kernel calls on a command list, with room for their results from an arena, and flush it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from sopro_np.errors import OpsError
from sopro_np.ops.abi import FIELDS, KERNELS
from sopro_np.ops.native.arena import Arena
from sopro_np.ops.native.commands import LAYOUTS, CommandList, names
from sopro_np.ops.native.loader import kernels
from sopro_np.ops.native.packs import Kernels

Note = Callable[[int, tuple[int, ...]], None]  # (first word of a block, its fields behind `pieces`)


class Kernel(NamedTuple):
    """How a kernel is called: its address, the layout of its block, and the order of its fields."""

    code: int
    layout: Struct
    ordered: Callable[[dict[str, int]], tuple[int, ...]]
    fields: int  # how many


class Launcher(threading.local):
    """One per thread: an arena, and the command list that is being written."""

    def __init__(self) -> None:
        self._kernels: dict[str, Kernel] = {}
        self.arena, self.commands = Arena(), CommandList(1 << 14)
        self.note: Note | None = None  # whoever captures is told of every call
        self._view: type[np.ndarray] | None = None  # of results, while a step is captured
        self._held: list[np.ndarray] = []  # what a captured list refers to
        self._done = 0  # calls of it that were run already

    @property
    def kernels(self) -> Kernels:
        return kernels()

    @property
    def capturing(self) -> bool:
        return self._view is not None

    def empty(self, *shape: int) -> tuple[np.ndarray, int]:
        """Room for a result, float32, and its address."""
        array, address = self.arena.lend(shape)
        return (array if self._view is None else array.view(self._view)), address

    def scratch(self, size: int) -> tuple[Any, int]:
        """So many bytes for the time until `flush` has returned; keep the first value until then."""
        return self.arena.lend((1 << max(size - 1, 1).bit_length(),), np.uint8)  # few sizes, or many blocks would idle

    def keep_alive(self, array: np.ndarray) -> None:
        """An array that a captured call refers to stays as long as the list. (Others are their callers' business.)"""
        self._held.append(array)

    def call(self, kernel: str, pieces: int, **fields: int) -> None:
        """Put a call on the list, with its fields (ops/abi.py) by name."""
        known = self._kernels.get(kernel) or self._find(kernel)
        values = known.ordered(fields)
        if len(fields) != known.fields:
            raise OpsError(f"{kernel}: {sorted(fields)} are not its fields")
        first = self.commands.add(known.code, known.layout, pieces, values)
        if self.note is not None:
            self.note(first, values)

    def _find(self, kernel: str) -> Kernel:
        code, block = self.kernels.address(kernel), KERNELS[kernel]
        names[code] = kernel
        fields = FIELDS[block].split()[1:]
        found = self._kernels[kernel] = Kernel(code, LAYOUTS[block], itemgetter(*fields), len(fields))
        return found

    def flush(self) -> None:
        """Run what was put on the list since the last time; a captured list keeps it."""
        commands = self.commands
        if self.capturing:
            first, self._done = self._done, commands.count
            commands.run(self.kernels, first)
            return
        try:
            commands.run(self.kernels)
        finally:
            commands.clear()

    @contextmanager
    def capture_into(
        self, commands: CommandList, arena: Arena, view: type[np.ndarray], note: Note, held: list[np.ndarray]
    ) -> Iterator[None]:
        """Inside this block calls go to that list, and results, as arrays of class `view`, into that arena."""
        before = self.commands, self.arena
        self.commands, self.arena, self._view, self.note, self._held, self._done = commands, arena, view, note, held, 0
        try:
            yield
        finally:
            (self.commands, self.arena), self._view, self.note, self._held = before, None, None, []


LAUNCHER = Launcher()
