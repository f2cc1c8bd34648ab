"""Drawing a code on kernels."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from sopro_np.ops.native.desk import DESK
from sopro_np.ops.native.products import address, expect, plain
from sopro_np.ops.native.rows import real


def draw(
    logits: np.ndarray,
    seen: Sequence[int],
    temperature: float,
    top_k: int,
    top_p: float | None,
    penalty: float,
    u: float,
) -> int:
    """logits (V,) -> code; see ops/choice.py."""
    logits = plain(logits)
    n = len(logits)
    expect(n > 0 and (not seen or 0 <= min(seen) <= max(seen) < n), "draw", logits)
    codes = np.array(seen, np.int64)
    room = 16 * (-(-n // 16) * 16)
    held, scratch = DESK.scratch(room + 8)
    (bits,) = struct.unpack("=q", struct.pack("=d", u))
    DESK.call(
        "draw", 1, address(logits), n, real(temperature or 1.0), top_k,
        real(top_p if top_p is not None and top_p < 1 else -1.0), real(penalty), address(codes), len(codes), bits,
        scratch, scratch + room,
    )  # fmt: skip
    DESK.go()
    return int(held[room : room + 8].view(np.int64)[0])
