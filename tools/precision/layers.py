"""Matrices grouped to layers (what a reader of docs/MODEL.md calls one), and layers to parts of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sopro_np.ops.quant import FORMATS

# A layer is a matrix's name without its last word, if that word only says which of its matrices it is.
_INNER = re.compile(
    r"\.(?:weight|gate|ff_in|ff_out|query|key|value|out|hidden|score|input|output|(?:conv|codebook)\.\d+|shortcut)$"
)


def layer_of(matrix: str) -> str:
    """`sopro.ar.blocks.2.ff_in.weight` -> `sopro.ar.blocks.2`, `mimi.decoder.3.conv.0.weight` -> `mimi.decoder.3`."""
    name = matrix.removesuffix(".weight")
    parts = name.count(".")
    shorter = _INNER.sub("", name)
    return shorter if shorter.count(".") >= min(parts, 2) else name


def part_of(layer: str) -> str:
    """`sopro.ar`, `sopro.nar`, `mimi.decoder`, ...: the first two words."""
    return ".".join(layer.split(".")[:2])


def by_layer(matrices: Iterable[str]) -> dict[str, list[str]]:
    """Layer -> its matrices, in order."""
    layers: dict[str, list[str]] = {}
    for matrix in matrices:
        layers.setdefault(layer_of(matrix), []).append(matrix)
    return layers


def stored_bytes(shape: tuple[int, int], form: str) -> float:
    """Bytes of a matrix in a file, scales included (int4 groups counted as if full)."""
    rows, columns = shape
    scheme = FORMATS[form].scheme
    per_weight = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int4": 0.5 + 2 / FORMATS[form].group}[scheme]
    return rows * columns * per_weight + (4 * rows if scheme == "int8" else 0)
