"""Under what a model computes: the implementation that packed its weights, and a number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sopro_np.ops import using
from sopro_np.ops.native.desk import on_threads
from sopro_np.ops.threads import blas_threads


@contextmanager
def computing(implementation: str, threads: int | None, one_row: bool = False) -> Iterator[None]:
    """For the length of a block without a `yield`: these ops, at most so many threads (None: as many as there are).

    `one_row`: products of single rows, for which BLAS is better off with one thread.
    """
    with using(implementation):
        if implementation == "native":
            with on_threads(threads):
                yield
        else:
            with blas_threads(1 if one_row else threads):
                yield
