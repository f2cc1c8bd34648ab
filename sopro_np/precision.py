"""How exactly the rows that integers multiply are quantised: a choice for everything computed inside a block.

"fast": 8 bits for every row. "fine": 16 bits, as two products, of the high and the low bytes. "adaptive": 16 bits for
the rows that 8 bits say badly, in which the largest number is far above the others. A row decides that by itself, from
its own integers, so its bits depend neither on its neighbours nor on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MODES = ("fast", "adaptive", "fine")
CREST = 4.0  # peak / rms of its integers from which a row is a bad one
ALWAYS = 1 << 62
_mode: ContextVar[str] = ContextVar("sopro_np_precision", default="fast")


@contextmanager
def precise(mode: str) -> Iterator[None]:
    """Products inside this block are computed so, one of MODES. Not to be left open over a `yield`."""
    assert mode in MODES, mode
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def current() -> str:
    """What was chosen here."""
    return _mode.get()


def limit(inputs: int, asymmetric: bool) -> int:
    """Rows of so many integers whose squares sum up to less than this are given 16 bits (one of zeros never is)."""
    mode = _mode.get()
    if mode != "adaptive":
        return ALWAYS if mode == "fine" else 0
    peak = 127.5 if asymmetric else 127.0
    return int(inputs * (peak / CREST) ** 2)
