"""A model watched while it computes (sopro_np/requantise/watch.py): what goes into and comes out of every matrix, and
activations quantised in other ways than the engine does.

The ways (FORMATS) apply to matrices at int8 or int4. Integers times scales are computed in float32: the same numbers
as integer products up to float rounding, which is 100 dB below what is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sopro_np.ops.quant import QTensor
from sopro_np.requantise import watch
from sopro_np.requantise.watch import Seen

TINY = np.float32(1e-12)


@dataclass
class Range:
    """What went into one matrix: extremes of everything, sums for the mean power, and every row's largest value."""

    low: float = np.inf
    high: float = -np.inf
    power: float = 0.0
    count: int = 0
    row_peaks: list[np.ndarray] = field(default_factory=list)
    total: np.ndarray | None = None  # of every column

    def add(self, x: np.ndarray) -> None:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        self.power += float(np.square(x, dtype=np.float64).sum())
        self.count += x.size
        self.row_peaks.append(np.abs(x).max(axis=1))
        columns = x.sum(axis=0, dtype=np.float64)
        self.total = columns if self.total is None else self.total + columns

    def mean(self) -> np.ndarray:
        """Of every column (C,): what a matrix sees on average."""
        assert self.total is not None
        return self.total * len(self.total) / self.count

    def as_dict(self) -> dict[str, float]:
        """low, high, rms; peak / rms; and how far the median and the smallest row's peak lie below the largest."""
        peaks = np.concatenate(self.row_peaks)
        top, rms = float(peaks.max()), float(np.sqrt(self.power / self.count))
        return {
            "low": self.low,
            "high": self.high,
            "rms": rms,
            "crest": top / max(rms, 1e-30),
            "median_row": float(np.median(peaks)) / max(top, 1e-30),
            "smallest_row": float(peaks.min()) / max(top, 1e-30),
        }


@dataclass
class Watch(watch.Watch):
    """What is noted (`ranges` always, `outputs` if `keeps`), and how activations are quantised.

    `activations`: a name of FORMATS, or None for the engine's own arithmetic. `given`: ranges measured before, for the
    static formats and for `corrects`: what rounding a weight does to the mean of an output goes into its bias (Nagel et
    al. 2019, arXiv 1906.04721).
    """

    activations: str | None = None
    keeps: bool = False
    corrects: bool = False
    given: dict[str, Range] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    outputs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    wide: dict[str, QTensor] = field(default_factory=dict)
    shifts: dict[str, np.ndarray] = field(default_factory=dict)  # what is added to a bias

    def __post_init__(self) -> None:
        super().__init__()

    def read(self, name: str, weight: QTensor, original: QTensor) -> QTensor:
        if self.corrects and weight is not original and name in self.given:
            lost = original.dequantize() - weight.dequantize()
            self.shifts[name] = (lost @ np.tile(self.given[name].mean(), weight.taps)).astype(np.float32)
        return super().read(name, weight, original)

    def bias(self, name: str, bias: np.ndarray | None) -> np.ndarray | None:
        shift = self.shifts.get(name)
        return bias if shift is None else shift if bias is None else bias + shift

    def entering(self, name: str, seen: Seen, w: QTensor) -> tuple[np.ndarray, QTensor]:
        if seen.new.size:
            self.ranges.setdefault(name, Range()).add(seen.new)
        if self.activations is None or w.scheme not in ("int8", "int4") or not seen.rows.size:
            return seen.rows, w
        if name not in self.wide:
            self.wide[name] = QTensor("fp32", w.shape, w.dequantize(), None, w.taps)
        return FORMATS[self.activations](seen.rows, self.given.get(name)), self.wide[name]

    def leaving(self, name: str, y: np.ndarray) -> np.ndarray:
        if self.keeps:
            self.outputs.setdefault(name, []).append(y.copy())
        return y


# ---------------------------------------------------------------- activation formats: (T, C) -> (T, C), on a grid


def _symmetric(x: np.ndarray, amax: np.ndarray | np.float32) -> np.ndarray:
    scale = np.maximum(amax, TINY) / np.float32(127)
    return np.clip(np.rint(x / scale), -127, 127) * scale


def _asymmetric(x: np.ndarray, low: np.ndarray | np.float32, high: np.ndarray | np.float32) -> np.ndarray:
    """256 steps from low to high; zero is one of them, as every integer kernel needs it."""
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = np.maximum(high - low, TINY) / np.float32(255)
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


def _limits(r: Range | None) -> tuple[np.float32, np.float32]:
    if r is None:
        raise ValueError("a static format needs ranges that were measured before")
    return np.float32(r.low), np.float32(r.high)


Format = Callable[[np.ndarray, Range | None], np.ndarray]
FORMATS: dict[str, Format] = {
    "float": lambda x, r: x,
    "frame symmetric": lambda x, r: _symmetric(x, np.abs(x).max(axis=1, keepdims=True)),
    "frame asymmetric": lambda x, r: _asymmetric(x, x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)),
    "piece symmetric": lambda x, r: _symmetric(x, np.abs(x).max()),
    "piece asymmetric": lambda x, r: _asymmetric(x, x.min(), x.max()),
    "static symmetric": lambda x, r: _symmetric(x, max(-_limits(r)[0], _limits(r)[1])),
    "static asymmetric": lambda x, r: _asymmetric(x, *_limits(r)),
}
EXPLAINED = {
    "float": "activations not quantised: what int8 weights alone cost",
    "frame symmetric": "the engine's: one scale per frame (row)",
    "frame asymmetric": "one scale and one zero point per frame",
    "piece symmetric": "one scale per call (a piece of the stream, whole stages offline; one row in AR)",
    "piece asymmetric": "the same with a zero point",
    "static symmetric": "one fixed scale per matrix, from the fp32 model's extremes on other sentences",
    "static asymmetric": "the same with a zero point",
}
CORRECTED = "frame symmetric, biases corrected"
EXPLAINED[CORRECTED] = "the engine's, and what rounding a weight does to an output's mean goes into its bias"
