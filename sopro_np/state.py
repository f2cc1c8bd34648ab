"""What a stream remembers between two calls: two kinds of leaves, all mutable, all plain arrays.

Zeros mean "nothing heard yet", so the first chunk is a chunk like any other. The layer that owns a leaf
also advances it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.errors import ModelError


@dataclass
class Tail:
    """The last inputs of one convolution: rows (P, C), oldest first; always the same array."""

    rows: np.ndarray

    @staticmethod
    def zeros(frames: int, channels: int) -> Tail:
        return Tail(np.zeros((frames, channels), np.float32))

    def push(self, x: np.ndarray, keep: int | None = None) -> None:
        """Remember x (T, C), in place. `keep`: only its first `keep` rows, the rest was a look ahead (None: all)."""
        ops.remember(self.rows, x if keep is None else x[:keep])


class KV:
    """Keys and values of every position heard so far; memory for all of them is reserved at the start.

    keys, values (capacity, W); the operating system hands out a page when it is first written.
    """

    def __init__(self, capacity: int, width: int) -> None:
        self._k = np.zeros((capacity, width), np.float32)
        self._v = np.zeros((capacity, width), np.float32)
        self.length = 0

    def append(self, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Remember k, v (T, W) -> all keys and values so far, (length, W) each."""
        end = self.length + len(k)
        if end > len(self._k):
            raise ModelError(f"the stream is longer than the {len(self._k)} positions reserved for it")
        self._k[self.length : end], self._v[self.length : end] = k, v
        self.length = end
        return self._k[:end], self._v[:end]
