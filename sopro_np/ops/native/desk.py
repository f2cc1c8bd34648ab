"""The former name of threads.py: docs/KERNELS.md told people to import `on_threads` from here."""

from __future__ import annotations

from sopro_np.ops.native.threads import on_threads

__all__ = ["on_threads"]
