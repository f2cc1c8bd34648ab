"""What a stream remembers between two calls: two kinds of leaves, all plain arrays that change in place.

Zeros mean "nothing heard yet", so the first chunk is a chunk like any other. The layer that owns a leaf
also advances it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops


@dataclass
class Tail:
    """The last inputs of one convolution: rows (P, C), oldest first; always the same array."""

    rows: np.ndarray

    @staticmethod
    def zeros(frames: int, channels: int) -> Tail:
        return Tail(np.zeros((frames, channels), np.float32))

    def push(self, x: np.ndarray, keep: int | None = None) -> None:
        """Remember x (T, C), in place. `keep`: only its first `keep` rows, the rest was a look ahead (None: all)."""
        ops.push_history(self.rows, x if keep is None else x[:keep])


@dataclass
class KV:
    """Keys and values of every position heard so far, (positions, W) each; memory for all of them is reserved at the
    start, and the operating system hands out a page when it is first written.
    """

    keys: np.ndarray
    values: np.ndarray

    @staticmethod
    def zeros(positions: int, width: int) -> KV:
        return KV(np.zeros((positions, width), np.float32), np.zeros((positions, width), np.float32))

    def append(self, k: np.ndarray, v: np.ndarray, first: int) -> None:
        """Remember k, v (T, W) as positions first..first+T-1."""
        ops.write_rows(self.keys, k, first)
        ops.write_rows(self.values, v, first)
