"""Memory for the results of operations, used again and again: in the steady state nothing is allocated.

A block belongs to the array made from it until that array (and every view of it) is gone; then it serves the next
one of its size. Arrays are aligned to 64 bytes and hold whatever was there before.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import Any

import numpy as np

ALIGNMENT = 64
MAPPED = 1 << 20  # bytes from which a block is mapped by itself


class Block:
    """A stretch of memory."""

    __slots__ = ("address", "buffer", "lease", "size")

    def __init__(self, size: int) -> None:
        if size >= MAPPED and hasattr(mmap, "MAP_PRIVATE"):
            # Returns to the system when it is let go. Private: a forked process must not write into it.
            memory: Any = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            shift = 0
        else:
            memory = np.empty(size + ALIGNMENT, np.uint8)
            shift = -memory.ctypes.data % ALIGNMENT
        # Not a NumPy array or a memoryview of one: views of what is made from those belong to the memory, not to
        # the array, and would outlive the lease.
        self.buffer = (ctypes.c_char * size).from_buffer(memory, shift)
        self.address = ctypes.addressof(self.buffer)
        self.size = size
        self.lease: Lease | None = None


class Lease(weakref.ref):
    """Knows which block its array came from."""

    __slots__ = ("block",)
    block: Block


_arenas: weakref.WeakSet[Arena] = weakref.WeakSet()


def bytes_of_all() -> int:
    """What all arenas of this process hold: of every thread that computes one, and one for its captured steps."""
    return sum(arena.nbytes for arena in _arenas)


class Arena:
    """Blocks in sizes that grow by a quarter of a power of two."""

    def __init__(self) -> None:
        _arenas.add(self)
        self._free: dict[int, list[Block]] = {}
        self._blocks: list[Block] = []  # all of them: captured addresses stay good as long as the arena lives

    @property
    def nbytes(self) -> int:
        return sum(block.size for block in self._blocks)

    @property
    def lent(self) -> int:
        """Bytes that are in use."""
        return self.nbytes - sum(block.size for blocks in self._free.values() for block in blocks)

    def lend(self, shape: tuple[int, ...], dtype: Any = np.float32) -> tuple[np.ndarray, int]:
        """An array of this shape with any contents, and its address."""
        size = np.dtype(dtype).itemsize
        for n in shape:
            size *= n
        block = self._take(_rounded(size))
        array = np.ndarray(shape, dtype, buffer=block.buffer)  # type: ignore[arg-type]
        lease = Lease(array, self._back)
        lease.block = block
        block.lease = lease
        return array, block.address

    def trim(self) -> None:
        """Give unused blocks back to the system."""
        unused, self._free = self._free, {}  # a block may come back at any moment
        free = {id(block) for blocks in unused.values() for block in blocks}
        self._blocks = [block for block in self._blocks if id(block) not in free]

    def _take(self, size: int) -> Block:
        for near in range(size, 2 * size + 1, max(256, 1 << (size - 1).bit_length() - 3)):  # or a somewhat larger one
            if free := self._free.get(near):
                return free.pop()
        block = Block(size)
        self._blocks.append(block)
        return block

    def _back(self, lease: Lease) -> None:
        self._free.setdefault(lease.block.size, []).append(lease.block)


def _rounded(size: int) -> int:
    if size <= 256:
        return 256
    step = 1 << (size - 1).bit_length() - 3
    return -(-size // step) * step
