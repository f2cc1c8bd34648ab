"""A model whose products are watched: NumPy's operations, which show what goes into and comes out of each matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import sopro_np.ops as operations
from sopro_np.convert.recipe import Recipe
from sopro_np.convert.rounding import Rounding
from sopro_np.engine import Sopro
from sopro_np.ops import activations, reference
from sopro_np.ops.quant import QTensor
from sopro_np.requantise.weights import Requantised

NAME = "watched"


@dataclass(frozen=True)
class Seen:
    """What a product reads: rows (R, C), the first `known` of them for the second time; `taps` of them, `dilation`
    apart, make an output, and the next output begins `stride` rows later."""

    rows: np.ndarray
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    known: int = 0

    @property
    def new(self) -> np.ndarray:
        """Rows that are read for the first time."""
        return self.rows[self.known :]

    def __len__(self) -> int:
        """Outputs."""
        return max(0, (len(self.rows) - (self.taps - 1) * self.dilation - 1) // self.stride + 1)

    def rows_of(self, outputs: np.ndarray) -> np.ndarray:
        """What the outputs (n,) are made of, as places in `rows`, (n, K)."""
        return outputs[:, None] * self.stride + np.arange(self.taps) * self.dilation


class Watch:
    """What is told to a subclass: `entering` before a product, `leaving` after it. Both may answer with something else.

    A matrix is known by the address of its numbers.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.held: list[np.ndarray] = []  # so that no address is given away twice

    def read(self, name: str, weight: QTensor, original: QTensor) -> QTensor:
        """A matrix on its way into the model."""
        return self.register(name, weight)

    def entering(self, name: str, seen: Seen, w: QTensor) -> tuple[np.ndarray, QTensor]:
        """Rows and matrix that are computed with."""
        return seen.rows, w

    def leaving(self, name: str, y: np.ndarray) -> np.ndarray:
        """The product, bias, activation and all."""
        return y

    def bias(self, name: str, bias: np.ndarray | None) -> np.ndarray | None:
        """The bias that is added."""
        return bias

    def register(self, name: str, weight: QTensor) -> QTensor:
        self.held.append(weight.data)
        self.names[weight.data.ctypes.data] = name
        return weight

    def pack(self, w: QTensor, act: str | None = None) -> QTensor:
        return self.register(self.names[w.data.ctypes.data], reference.pack(w, act))

    def conv(
        self,
        x: np.ndarray,
        w: QTensor,
        bias: np.ndarray | None = None,
        stride: int = 1,
        dilation: int = 1,
        past: np.ndarray | None = None,
        pre: str | None = None,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        if past is not None:
            x = np.concatenate([past, x])
        if pre == "elu":
            x = activations.elu(x)
        name = self.names[w.data.ctypes.data]
        x, w = self.entering(name, Seen(x, w.taps, stride, dilation, 0 if past is None else len(past)), w)
        return self.leaving(name, reference.conv(x, w, self.bias(name, bias), stride, dilation, residual=residual))

    def linear(
        self,
        x: np.ndarray,
        w: QTensor,
        bias: np.ndarray | None = None,
        act: str | None = None,
        scale: np.ndarray | np.float32 | None = None,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        name = self.names[w.data.ctypes.data]
        x, w = self.entering(name, Seen(x), w)
        return self.leaving(name, reference.linear(x, w, self.bias(name, bias), act, scale, residual))


@contextmanager
def watched(path: Path, recipe: Recipe | None, watch: Watch, rounding: Rounding | None = None) -> Iterator[Sopro]:
    """The model of a file under a recipe (None: as it is), computing with watched operations inside the block."""

    class Named(Requantised):
        def made(self, name: str, weight: QTensor, original: QTensor) -> QTensor:
            return watch.read(name, weight, original)

    own: dict[str, Callable[..., Any]] = {"pack": watch.pack, "linear": watch.linear, "conv": watch.conv}
    operations.TABLES[NAME] = operations.TABLES["numpy"] | own
    try:
        with operations.using(NAME):
            yield Sopro(path, 1, lambda file: Named(file, recipe, rounding))
    finally:
        del operations.TABLES[NAME]
