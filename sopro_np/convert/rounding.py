"""To which integers a weight is rounded, when nothing but the weight itself is known.

int8 has one scale per output and steps so fine that a better one is hardly worth it (docs/QUANT.md, "Rounding"): the
largest weight is 127. int4 hangs on the scale of each group:

- the largest weight of the group, with its sign, may be -8, the integer that has no partner: so scales may be negative;
- of some factors on that scale the one with the least squared error is taken (a scale too small for the largest weight
  is often better for all others together);
- then integers and scale are fitted to each other: least squares for the scale, rounding for the integers.

Half-quadratic quantisation (Badri & Shaji 2023, "HQQ") fits to the weights less what a shrinkage step for an lp norm
singles out as large errors: `norm` below 2. It is here for the study; squares do better by the error of outputs.
Groups are independent of one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np.ops.quant import FORMATS, QTensor, encoded_int4, grouped, quantize

FACTORS = np.linspace(0.6, 1.15, 23, dtype=np.float32)
TURNS = 1
AT_ONCE = 1 << 18  # weights: what stays in a cache
BETA = 10.0  # HQQ's weight of the errors that are not singled out
LIMITS = {"int8": (-127, 127), "int4": (-8, 7)}


class Rounding:
    """How integers are found. This one: the largest weight of an output or group is the largest integer."""

    said = "plain"  # in the metadata of a file

    def __call__(self, name: str, w: np.ndarray, form: str, taps: int = 1, first: int = 0) -> QTensor:
        """w (n, K*C) float32, rows first..first+n-1 of the matrix `name` -> QTensor. FormatError as from `quantize`."""
        return quantize(w, form, taps)

    def judges(self, name: str) -> np.ndarray | None:
        """Inputs (n, K*C) of a matrix by which its rounding may be judged. None: nothing is known of them."""
        return None


@dataclass(frozen=True)
class Fitted(Rounding):
    """By the weights alone: a search over scales, then `turns` of fitting in the lp norm `norm`."""

    turns: int = TURNS
    norm: float = 2.0
    said = "fitted"

    def __call__(self, name: str, w: np.ndarray, form: str, taps: int = 1, first: int = 0) -> QTensor:
        plain = quantize(w, form, taps)  # it also refuses what cannot be
        if FORMATS[form].scheme != "int4":
            return plain
        parts = grouped(np.asarray(w, np.float32), taps, plain.group)
        q, scale = self.fit(parts.reshape(-1, plain.group))
        return encoded_int4(q.reshape(parts.shape), scale.reshape(parts.shape[:3]), plain.inputs, taps, plain.group)

    def fit(self, w: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Groups w (n, g) -> int4 integers (n, g) int8, scales (n,) float32 as a file holds them.

        `weight` (g,): how much the square of an error counts.
        """
        q, scale = np.empty(w.shape, np.int8), np.empty(len(w), np.float32)
        step = max(1, AT_ONCE // w.shape[1])
        for a in range(0, len(w), step):
            q[a : a + step], scale[a : a + step] = self._fit(w[a : a + step], weight)
        return q, scale

    def _fit(self, w: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        full = np.take_along_axis(w, np.abs(w).argmax(axis=1)[:, None], axis=1)[:, 0] / np.float32(-8)
        best, least = full, np.full(len(w), np.inf)

        def keep(scale: np.ndarray, always: bool = False) -> None:
            nonlocal best, least
            scale = as_stored(scale)
            error = _squares(w - rounded(w, scale) * scale[:, None], weight)
            better = (error < least) | always
            best, least = np.where(better, scale, best), np.where(better, error, least)

        for factor in FACTORS:
            keep(full * factor)
        for _ in range(self.turns):
            q, target = rounded(w, best), w
            if self.norm < 2:
                target = w - _singled_out(w - q * best[:, None], self.norm)
            keep(_least_squares(target, q, best, weight), always=self.norm < 2)
        return rounded(w, best).astype(np.int8), best


ROUNDINGS = {"fitted": Fitted(), "plain": Rounding()}  # what a recipe may say


def as_stored(scale: np.ndarray) -> np.ndarray:
    """Scales of int4 as a file holds them, in float16, as float32."""
    return np.clip(scale, -65504, 65504).astype(np.float16).astype(np.float32)


def rounded(w: np.ndarray, scale: np.ndarray, scheme: str = "int4") -> np.ndarray:
    """The nearest integers of rows w (n, g) in steps of scale (n,), as float32."""
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    q = w * inverse[:, None]
    np.rint(q, out=q)
    return np.clip(q, *LIMITS[scheme], out=q)


def _least_squares(w: np.ndarray, q: np.ndarray, scale: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """The scale that brings integers q nearest to w; where all of them are 0, it stays."""
    heavy = q if weight is None else q * weight
    power = (heavy * q).sum(axis=1, dtype=np.float64)
    found = np.divide((heavy * w).sum(axis=1, dtype=np.float64), power, out=scale.astype(np.float64), where=power > 0)
    return found.astype(np.float32)


def _squares(error: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Of rows (n, g), added up so finely that no machine finds another one smaller."""
    np.square(error, out=error)
    if weight is not None:
        error *= weight
    return np.asarray(error.sum(axis=1, dtype=np.float64))


def _singled_out(error: np.ndarray, norm: float) -> np.ndarray:
    """HQQ's generalised soft threshold, errors measured in the largest of their group: what is left of the large."""
    size = np.abs(error)
    unit = np.maximum(size.max(axis=1, keepdims=True), np.float32(1e-30))
    size = np.maximum(size / unit, np.float32(1e-6))
    return np.sign(error) * unit * np.maximum(size - np.power(size, norm - 1) / np.float32(BETA), 0)
