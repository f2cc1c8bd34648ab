"""The arithmetic: one table, name -> function, for each implementation.

Callers write `ops.linear(x, w)`: the attribute is looked up at call time, so `with using("numpy"):` swaps all
that is computed inside. Layers never see how a weight is packed; a model is computed by the implementation
that packed it, which its Runtime knows (runtime.py), so models of several can live side by side.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sopro_np.errors import OpsError, SoproWarning
from sopro_np.ops import activations, native, reference, sampling
from sopro_np.ops.arrays import Arrays as Arrays

NAMES = (
    "pack", "linear", "conv", "depthwise_conv", "push_history", "write_rows", "embed", "embed_sum", "argmax_rows",
    "rms_norm", "layer_norm", "match_rms", "sigmoid", "gelu", "softmax", "attention", "rope", "nearest_row",
    "sample", "concat", "replay", "temporary_packing",
)  # fmt: skip
_PAGES = (reference, activations, sampling)  # where NumPy's are written down
TABLES: dict[str, dict[str, Callable[..., Any]]] = {
    "numpy": {name: next(getattr(page, name) for page in _PAGES if hasattr(page, name)) for name in NAMES},
    "native": {name: getattr(native, name) for name in NAMES},
}
_default: str | None = None  # decided when it is first asked for
_here: ContextVar[str | None] = ContextVar("sopro_np_ops", default=None)


def use(implementation: str) -> None:
    """Choose the implementation for models loaded from now on: one of TABLES. Never falls back silently."""
    global _default
    _default = _checked(implementation)


@contextmanager
def using(implementation: str) -> Iterator[None]:
    """Another implementation inside this block, in this thread only. Not to be left open over a `yield`."""
    token = _here.set(_checked(implementation))
    try:
        yield
    finally:
        _here.reset(token)


def current() -> str:
    """Name of the implementation in use here."""
    global _default
    if (name := _here.get() or _default) is None:
        name = _default = _best()
    return name


def _best() -> str:
    """Native kernels where there are some for this machine; where not, NumPy, and a warning says why.

    If the environment asks for certain kernels and they are not to be had, that is an error.
    """
    try:
        native.kernels()
    except OpsError as error:
        if native.asked_for():
            raise
        warnings.warn(f"computing with NumPy, which is slow: {error}", SoproWarning, stacklevel=2)
        return "numpy"
    return "native"


def _checked(implementation: str) -> str:
    if not isinstance(implementation, str) or implementation not in TABLES:
        have = ", ".join(sorted(TABLES))
        raise OpsError(f"ops {implementation!r} are not available in this installation (available: {have})")
    if implementation == "native":
        native.kernels()
    return implementation


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        return TABLES[_here.get() or _default or current()][name]
    except KeyError:
        raise AttributeError(f"no operation named {name!r}") from None
