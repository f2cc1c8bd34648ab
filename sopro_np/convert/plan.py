"""What will stand in the output file: names, shapes, and how to produce the rows of each tensor.

A plan is made before a byte is written, so the header is complete and the data can be written in row blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.convert.source import Source
from sopro_np.errors import ConvertError

Producer = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Matrix:
    """A weight (rows, taps*inputs): the recipe chooses its format. `produce(a, b)` gives rows a..b-1, float32.

    `source`: the tensor of the checkpoint that it is made of (of several, what their names have in common, then `*`).
    """

    name: str
    rows: int
    inputs: int
    taps: int
    produce: Producer
    source: str


@dataclass
class Part:
    """One of the three parts of a file, planned.

    `matrices` follow the recipe; `arrays` (norms, biases, tables, tokenizer) are written as they are. What the source
    (`path`, of which `files` were read) holds and upstream's loader ignores stands in `passed_over`, by kind; missing
    tensors that got upstream's initial value in `filled`. `speech`: the pace of its lessons, where the source says it.
    """

    prefix: str
    path: Path | None = None
    files: list[Path] = field(default_factory=list)
    config: dict[str, Any] | None = None
    original_config: str | None = None
    matrices: list[Matrix] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    speech: dict[str, float] | None = None


class Planner:
    """Fills a Part from one Source; the helpers copy a module under a new name."""

    def __init__(self, source: Source, part: Part) -> None:
        self.source, self.part = source, part

    def vector(self, name: str, values: np.ndarray) -> None:
        """A small tensor that was read or computed already."""
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(values, np.float32)
        if not np.isfinite(array).all():
            raise ConvertError(f"{self.source.path}: {name} becomes NaN or infinite: a weight is out of range")
        self.part.arrays[f"{self.part.prefix}.{name}"] = array

    def copy(self, name: str, source_name: str, *shape: int | None) -> None:
        """A small tensor as it is."""
        self.vector(name, self.source.whole(source_name, *shape))

    def whole_or(self, source_name: str, initial: np.ndarray) -> np.ndarray:
        """A small tensor, or `initial`: the constant that upstream's module holds where a checkpoint lacks it."""
        if source_name in self.source:
            return self.source.whole(source_name, *initial.shape)
        self.part.filled.append(source_name)
        return initial

    def matrix(self, name: str, source_name: str, rows: int, inputs: int, produce: Producer, taps: int = 1) -> None:
        self.part.matrices.append(Matrix(f"{self.part.prefix}.{name}", rows, inputs, taps, produce, source_name))

    def matrix_copy(self, name: str, source_name: str, rows: int | None, inputs: int | None) -> int:
        """A (rows, inputs) weight, read block by block; returns its number of rows."""
        n, c = self.source.shape(source_name, rows, inputs)
        self.matrix(name, source_name, n, c, lambda a, b: self.source.rows(source_name, a, b))
        return n

    def linear(self, name: str, source_name: str, rows: int | None, inputs: int | None, bias: bool = True) -> int:
        """`weight` and, if the module has one, `bias`; returns the number of outputs."""
        n = self.matrix_copy(f"{name}.weight", f"{source_name}.weight", rows, inputs)
        if bias:
            self.copy(f"{name}.bias", f"{source_name}.bias", n)
        return n

    def conv_block(self, name: str, source_name: str, width: int, taps: int = 7) -> None:
        """Upstream's SSMLiteBlock; `taps` of its convolution. The feed-forward may be narrower than upstream's 4 width
        (pruned), which its own loader refuses."""
        self.copy(f"{name}.norm.weight", f"{source_name}.norm.weight", width)
        self.linear(f"{name}.gate", f"{source_name}.glu.pro", 2 * width, width)
        self.depthwise(f"{name}.conv", f"{source_name}.dw.dw", width, taps)
        self.copy(f"{name}.ff_norm.weight", f"{source_name}.ff.0.weight", width)
        hidden = self.linear(f"{name}.ff_in", f"{source_name}.ff.1", None, width)
        self.linear(f"{name}.ff_out", f"{source_name}.ff.3", width, hidden)

    def depthwise(self, name: str, source_name: str, channels: int, taps: int = 7) -> None:
        """Depthwise convolution, (C, 1, K) -> (C, K)."""
        self.vector(f"{name}.weight", self.source.whole(f"{source_name}.weight", channels, 1, taps)[:, 0])
        self.copy(f"{name}.bias", f"{source_name}.bias", channels)
