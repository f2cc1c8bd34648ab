"""The door to the arithmetic: one table, name -> function, for each implementation.

Callers write `ops.linear(x, w)`: the attribute is looked up at call time, so `use("numpy")` swaps a whole
run. Layers never see how a weight is packed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sopro_np.errors import OpsError
from sopro_np.ops import reference

NAMES = (
    "pack", "linear", "conv", "depthwise_conv", "embed", "embed_sum",
    "rms_norm", "layer_norm", "rms_ratio", "sigmoid", "glu", "erf", "gelu", "elu", "tanh",
    "softmax", "attention", "rope", "nearest",
)  # fmt: skip
TABLES: dict[str, dict[str, Callable[..., Any]]] = {
    "numpy": {name: getattr(reference, name) for name in NAMES},
}
_current = "numpy"


def use(implementation: str) -> None:
    """Choose the implementation for this process: one of TABLES. Never falls back silently."""
    global _current
    if implementation not in TABLES:
        have = ", ".join(sorted(TABLES))
        raise OpsError(f"ops {implementation!r} are not available in this installation (available: {have})")
    _current = implementation


def current() -> str:
    """Name of the implementation in use."""
    return _current


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        return TABLES[_current][name]
    except KeyError:
        raise AttributeError(f"no operation named {name!r}") from None
