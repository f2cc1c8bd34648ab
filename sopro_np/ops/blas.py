"""How many threads BLAS may use, for the length of a `with` block.

Small products must run on one: two OpenBLAS threads beside another busy process made a matrix-vector product
a hundred times slower. The number is BLAS's own and holds for the whole process, so blocks that overlap in time
(several streams) share it: the smallest wish counts, and the original is back when the last block is left.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_wishes: list[int] = []
_original: Any = None


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController  # here: the kernels' builder has NumPy alone

    return ThreadpoolController()


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Limit BLAS to `count` threads; None leaves it alone."""
    if count is None:
        yield
        return
    _change(_wishes.append, count)
    try:
        yield
    finally:
        _change(_wishes.remove, count)


def _change(how: Any, count: int) -> None:
    """Add or remove a wish; tell BLAS if the smallest one is another now."""
    global _original
    with _lock:
        before = min(_wishes, default=None)
        how(count)
        after = min(_wishes, default=None)
        if before == after:
            return
        if after is None:
            _original.restore_original_limits()
        else:
            limit = _controller().limit(limits=after, user_api="blas")
            _original = limit if before is None else _original
