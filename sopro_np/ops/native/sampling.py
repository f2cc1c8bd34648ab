"""Sampling a code on kernels."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from sopro_np.ops.native.arguments import address, expect, plain, real
from sopro_np.ops.native.launcher import LAUNCHER


def sample(
    logits: np.ndarray,
    seen: Sequence[int],
    temperature: float,
    top_k: int,
    top_p: float | None,
    penalty: float,
    u: float,
) -> int:
    """logits (V,) -> code; see ops/sampling.py."""
    logits = plain(logits)
    n = len(logits)
    expect(n > 0 and (not seen or 0 <= min(seen) <= max(seen) < n), "sample", logits)
    codes = np.array(seen, np.int64)
    room = 16 * (-(-n // 16) * 16)
    held, scratch = LAUNCHER.scratch(room + 8)
    (bits,) = struct.unpack("=q", struct.pack("=d", u))
    LAUNCHER.call(
        "sample", 1, logits=address(logits), width=n, temperature=real(temperature or 1.0), top_k=top_k,
        top_p=real(top_p if top_p is not None and top_p < 1 else -1.0), penalty=real(penalty), seen=address(codes),
        seen_count=len(codes), u=bits, scratch=scratch, code=scratch + room,
    )  # fmt: skip
    LAUNCHER.flush()
    return int(held[room : room + 8].view(np.int64)[0])
