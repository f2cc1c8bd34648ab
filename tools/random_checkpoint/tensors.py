"""How random tensors are described, drawn and written; a *plan* is {name: (shape, draw)}.

`draw(rng, shape)` returns a float32 array. A plan costs nothing until it is written, and it is written tensor
by tensor straight into the file, so that peak memory is one tensor (the text embedding, 197 MB), not all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod, sqrt
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], np.ndarray]
Plan = dict[str, tuple[Shape, Draw]]

DTYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "f32": ("F32", np.dtype("<f4")),
    "f16": ("F16", np.dtype("<f2")),
}


def normal(std: float, mean: float = 0.0) -> Draw:
    """Independent normal values."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        x = np.asarray(rng.standard_normal(shape, dtype=np.float32))
        x *= np.float32(std)
        if mean:
            x += np.float32(mean)
        return x

    return draw


def uniform(low: float, high: float) -> Draw:
    """Independent values between low and high."""
    return lambda rng, shape: np.asarray(low + (high - low) * rng.random(shape, dtype=np.float32), np.float32)


def xavier(gain: float = 1.0) -> Draw:
    """Normal values with variance gain^2 / fan_in, fan_in being every axis but the first (out, in, taps)."""
    return lambda rng, shape: normal(gain / sqrt(prod(shape[1:])))(rng, shape)


def ones(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """All ones."""
    return np.ones(shape, np.float32)


NORM = normal(0.1, mean=1.0)
BIAS = normal(0.05)
GATE = uniform(0.3, 1.0)


def linear(out: int, into: int, gain: float = 1.0, bias: bool = True) -> Plan:
    """A linear layer: `.weight` (out, in) and `.bias` (out,)."""
    plan: Plan = {".weight": ((out, into), xavier(gain))}
    return plan | {".bias": ((out,), BIAS)} if bias else plan


def under(prefix: str, *plans: Plan) -> Plan:
    """The union of plans with `prefix` in front of every name."""
    return {prefix + name: entry for plan in plans for name, entry in plan.items()}


def parameters(plan: Plan) -> int:
    """Number of stored values."""
    return sum(prod(shape) for shape, _ in plan.values())


def write_safetensors(path: Path, plan: Plan, rng: np.random.Generator, dtype: str, metadata: dict[str, str]) -> None:
    """Draw every tensor of a plan, in the order of its names, into one .safetensors file.

    Format: 8-byte little-endian header length, JSON header padded with spaces to 8 bytes, raw tensors.
    """
    label, kind = DTYPES[dtype]
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for name in sorted(plan):
        end = offset + prod(plan[name][0]) * kind.itemsize
        header[name] = {"dtype": label, "shape": list(plan[name][0]), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(plan):
            _write_tensor(file, plan[name], rng, kind)


def _write_tensor(file: BinaryIO, entry: tuple[Shape, Draw], rng: np.random.Generator, kind: np.dtype[Any]) -> None:
    shape, draw = entry
    values = draw(rng, shape)
    if values.shape != shape:
        raise AssertionError(f"drew {values.shape} for a tensor of shape {shape}")
    file.write(np.ascontiguousarray(values, kind).data if values.ndim else values.astype(kind).tobytes())
