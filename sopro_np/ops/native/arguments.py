"""Arguments of kernels: arrays as addresses, floats as bits, shapes that must fit, rows cut into pieces."""

from __future__ import annotations

import struct

import numpy as np

from sopro_np.errors import OpsError
from sopro_np.ops.arrays import place
from sopro_np.ops.native.capture import CapturedArray
from sopro_np.ops.native.launcher import LAUNCHER
from sopro_np.ops.native.threads import threads

PIECE = 60_000  # multiply-accumulates of int8 below which a piece of work is not worth handing over (about 0.3 us)


def address(x: np.ndarray | None) -> int:
    """Where an array's numbers lie; 0 for no array. The caller keeps it until the call has run."""
    if x is None:
        return 0
    if LAUNCHER.capturing and not isinstance(x, CapturedArray):
        LAUNCHER.keep_alive(x)  # a captured call is run again
    return place(x)


def plain(x: np.ndarray) -> np.ndarray:
    """Float32, row after row without gaps: what kernels take."""
    if x.dtype == np.float32 and x.flags.c_contiguous:
        return x
    if isinstance(x, CapturedArray):
        raise OpsError("in a captured step the copy of an input that is not in rows would be lost: give whole rows")
    return np.ascontiguousarray(x, np.float32)


def real(value: float) -> int:
    """The bits of a float32, as an argument."""
    return int(struct.unpack("=i", struct.pack("=f", value))[0])


def expect(fits: bool, what: str, *arrays: np.ndarray | None) -> None:
    """Kernels trust their addresses: shapes that do not fit stop here, as they would in NumPy."""
    if not fits:
        shapes = ", ".join(str(None if a is None else a.shape) for a in arrays)
        raise ValueError(f"{what}: shapes {shapes} do not fit")


def row_pieces(rows: int, cost: int) -> tuple[int, int]:
    """(pieces, rows of a piece) for `rows` rows of that many simple steps each."""
    if threads() == 1:
        return 1, rows
    pieces = max(1, min(4 * threads(), rows, rows * cost // PIECE))
    block = -(-rows // pieces)
    return -(-rows // block) if block else 1, max(block, 1)
