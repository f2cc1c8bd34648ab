"""How many threads BLAS may use, for the length of a `with` block.

Small products must run on one: two OpenBLAS threads beside another busy process made a matrix-vector product
a hundred times slower.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def blas_threads(count: int | None) -> Iterator[None]:
    """Limit BLAS to `count` threads; None leaves it alone."""
    if count is None:
        yield
    else:
        with _controller().limit(limits=count, user_api="blas"):
            yield
