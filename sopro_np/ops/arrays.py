"""Where arrays lie, and the arrays of a stream that a repeated step changes in place, looked up once."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_BYTE = ctypes.c_char
_kinds: dict[Any, int] = {}  # shapes -> their number, which is compared faster


def place(x: np.ndarray) -> int:
    """Address of an array's numbers."""
    try:
        return ctypes.addressof(_BYTE.from_buffer(x))  # type: ignore[arg-type]  # four times as fast as asking the array
    except (TypeError, ValueError, BufferError):  # read-only (a mapped file), or empty
        return int(x.__array_interface__["data"][0])


class Arrays:
    """The state of a stream, as `ops.replay` takes it: always the same arrays, whose contents change.

    places (n,) int64: their addresses; kind: equal for equal shapes.
    """

    __slots__ = ("__weakref__", "arrays", "kind", "places")

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        self.arrays = tuple(arrays)
        self.places = np.array([place(a) for a in self.arrays], np.int64)
        shapes = tuple(a.shape for a in self.arrays)
        self.kind: Any = _kinds.setdefault(shapes, len(_kinds))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied or unpickled arrays lie elsewhere."""
        return Arrays, (self.arrays,)

    @staticmethod
    def joined(parts: Sequence[Arrays]) -> Arrays:
        """Those of several streams, one after the other."""
        if len(parts) == 1:
            return parts[0]
        whole = Arrays.__new__(Arrays)
        whole.arrays = tuple(a for part in parts for a in part.arrays)
        whole.places = np.concatenate([part.places for part in parts])
        whole.kind = tuple(part.kind for part in parts)
        return whole


NONE = Arrays(())
