"""Rounding that knows what a matrix will multiply: GPTQ (Frantar et al. 2022, arXiv 2210.17323).

What counts is not the error e = w - w' of the weights of an output but that of the output, |X e|^2 = e H e' with
H = X'X, X (rows, K*C) being inputs that the matrix has seen. With H = R R', R upper triangular, it is |e R|^2, and

    (e R)_j = e_j R_jj + sum_{i<j} e_i R_ij

so the inputs are gone through in order and each weight makes up for what the earlier ones did: it is rounded to the
integer nearest to w_j + sum_{i<j} e_i R_ij / R_jj (GPTQ's update, seen as Babai's nearest plane). A group's scale is
searched when the group is reached, errors weighted by R_jj^2. Then, in some turns, every scale and every integer is set
to what is best with all others as they are (coordinate descent; Behdin et al. 2023, arXiv 2309.01885).

X is what the engine multiplies: rows of int8 times their scales. Some of the rows are not used but kept to judge by:
where the result is no better on them than rounding without inputs, that one stands.

Outputs are independent given H. H is damped, and of at most WIDEST inputs: a wider matrix is cut, at a tap or at a
group, into spans that do not make up for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sopro_np.convert.rounding import Fitted, Rounding, as_stored, rounded
from sopro_np.ops.blas import blas_threads
from sopro_np.ops.quant import FORMATS, QTensor, encoded_int4, quantize_rows, quantize_rows_asymmetric

WIDEST = 4096  # columns of H, which is float64: 134 MB, three times while it is factored
BLOCK = 128  # columns of int8 between two products with all that came before
DAMPING = 0.1  # of the mean of H's diagonal
TURNS = 2
JUDGES = 8  # every 8th row is not calibrated with but judged by
MOST = 4096  # rows kept of a matrix's inputs
PARTS = 256  # arrays, until they are joined
GOLDEN = 0.6180339887498949


class Inputs:
    """Of one matrix: up to `most` rows (K*C), evenly from all that were seen, as the engine quantises them.

    Which row is kept depends on its number alone, and not on how the rows came.
    """

    def __init__(self, asymmetric: bool = False, most: int = MOST) -> None:
        self.asymmetric, self.most, self.seen, self.share, self._kept = asymmetric, most, 0, 1.0, 0
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # places, integers, scales

    def choose(self, count: int) -> np.ndarray:
        """Of `count` rows to come: numbers of those that `add` wants, in order."""
        return np.flatnonzero(_places(np.arange(self.seen, self.seen + count)) < self.share)

    def add(self, count: int, chosen: np.ndarray, rows: np.ndarray) -> None:
        """`count` rows came, of which rows (n, K, C) float32 were `chosen`. FormatError: one is NaN or infinite."""
        n, taps, inputs = rows.shape
        places = _places(self.seen + chosen)
        self.seen += count
        if not n:
            return
        q, scale = (quantize_rows_asymmetric if self.asymmetric else quantize_rows)(rows.reshape(n * taps, inputs))
        self._parts.append((places, q.reshape(n, taps * inputs), scale.reshape(n, taps)))
        self._kept += n
        if len(self._parts) > PARTS or self._kept > self.most:
            self._join()

    def _join(self) -> None:
        places, q, scale = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        while self._kept > self.most:
            self.share /= 2
            self._kept = int((places < self.share).sum())
        keep = places < self.share
        self._parts = [(places[keep], q[keep], scale[keep])]

    def __len__(self) -> int:
        return self._kept

    def rows(self) -> np.ndarray:
        """X (n, K*C) float32."""
        self._join()
        ((_, q, scale),) = self._parts
        return q * np.repeat(scale, q.shape[1] // scale.shape[1], axis=1)


def _places(numbers: np.ndarray) -> np.ndarray:
    """Spread over 0..1 so that any run of numbers is spread evenly."""
    return (numbers * GOLDEN) % 1.0


@dataclass
class Calibrated(Rounding):
    """Rounding of the matrices whose inputs are known; of the others by their weights alone."""

    inputs: Mapping[str, Inputs]
    damping: float = DAMPING
    turns: int = TURNS
    fitted: Fitted = field(default_factory=Fitted)
    said = "calibrated"
    _name: str = ""
    _known: tuple[np.ndarray, list[Span]] = field(default=(np.zeros((0, 0)), []))

    def __call__(self, name: str, w: np.ndarray, form: str, taps: int = 1, first: int = 0) -> QTensor:
        fitted = self.fitted(name, w, form, taps, first)
        known = self.inputs.get(name)
        if FORMATS[form].scheme not in ("int8", "int4") or known is None or len(known) < 2 * JUDGES:
            return fitted
        with blas_threads(1):  # a matrix and a vector at a time
            judges, spans = self._prepared(name, taps, fitted)
            found = solved(np.ascontiguousarray(w, np.float32), fitted, spans, self.turns, self.fitted)
            return better(w, judges, found, fitted)

    def judges(self, name: str) -> np.ndarray | None:
        known = self.inputs.get(name)
        return None if known is None or len(known) < 2 * JUDGES else known.rows()[::JUDGES]

    def _prepared(self, name: str, taps: int, like: QTensor) -> tuple[np.ndarray, list[Span]]:
        if name != self._name:
            x = self.inputs[name].rows()
            judges = np.arange(len(x)) % JUDGES == 0
            spans = [Span.of(x[~judges][:, a:b], a, b, self.damping) for a, b in cuts(taps, like.inputs)]
            self._name, self._known = name, (x[judges], spans)
        return self._known


@dataclass(frozen=True)
class Span:
    """Columns a..b-1 of a matrix: H of their inputs, damped, and R."""

    a: int
    b: int
    h: np.ndarray
    r: np.ndarray

    @staticmethod
    def of(x: np.ndarray, a: int, b: int, damping: float) -> Span:
        x = x.astype(np.float64)
        h = x.T @ x
        mean = float(np.trace(h)) / len(h)
        h[np.diag_indices(len(h))] += damping * mean if mean > 0 else 1.0
        flipped = np.linalg.cholesky(h[::-1, ::-1])
        return Span(a, b, h.astype(np.float32), np.ascontiguousarray(flipped[::-1, ::-1], np.float32))


def cuts(taps: int, inputs: int) -> Iterator[tuple[int, int]]:
    """Spans of at most WIDEST columns: whole taps, or parts of one tap that whole groups fit in."""
    step = WIDEST // inputs * inputs or WIDEST
    for a in range(0, taps * inputs if step >= inputs else 0, step):
        yield a, min(a + step, taps * inputs)
    if step < inputs:
        for tap in range(taps):
            for a in range(0, inputs, step):
                yield tap * inputs + a, tap * inputs + min(a + step, inputs)


def steps(a: int, b: int, like: QTensor) -> Iterator[tuple[int, int]]:
    """Of columns a..b-1 those that are rounded together: a group of int4, BLOCK of int8."""
    size = like.group if like.scheme == "int4" else BLOCK
    for tap in range(a // like.inputs, -(-b // like.inputs)):
        start, end = max(a, tap * like.inputs), min(b, (tap + 1) * like.inputs)
        for c in range(start, end, size):
            yield c, min(c + size, end)


def solved(w: np.ndarray, like: QTensor, spans: list[Span], turns: int, fitted: Fitted) -> QTensor:
    """Integers and scales for w (n, K*C) in the format of `like`, which is rounded by its weights alone."""
    scheme, n = like.scheme, len(w)
    q = np.zeros(w.shape, np.float32)
    scales = np.zeros((n, w.shape[1]), np.float32) if scheme == "int4" else np.tile(like.scale, w.shape[1])  # type: ignore[arg-type]
    for span in spans:
        e = np.zeros((n, span.b - span.a), np.float32)
        for a, b in steps(span.a, span.b, like):
            i, j = a - span.a, b - span.a
            diagonal = np.diag(span.r)[i:j]
            target = w[:, a:b] + e[:, :i] @ span.r[:i, i:j] / diagonal
            if scheme == "int4":
                scales[:, a:b] = fitted.fit(target, (diagonal / diagonal.max()) ** 2)[1][:, None]
            for c in range(j - i):
                t = target[:, c] + e[:, i : i + c] @ span.r[i : i + c, i + c] / diagonal[c]
                q[:, a + c] = rounded(t[:, None], scales[:, a + c], scheme)[:, 0]
                e[:, i + c] = w[:, a + c] - q[:, a + c] * scales[:, a + c]
        for _ in range(turns):
            polish(w, q, scales, e, span, like)
    if scheme == "int8":
        return replace(like, data=q.astype(np.int8))
    return packed(q, scales, like)


def polish(w: np.ndarray, q: np.ndarray, scales: np.ndarray, e: np.ndarray, span: Span, like: QTensor) -> None:
    """One turn of coordinate descent, in place: e (n, span) is w less its rounding."""
    for a, b in steps(span.a, span.b, like):
        i, j = a - span.a, b - span.a
        h = span.h[i:j, i:j]
        pull = e @ span.h[:, i:j]
        if like.scheme == "int4":
            power = np.einsum("nc,cd,nd->n", q[:, a:b], h, q[:, a:b], optimize=True)
            gain = np.einsum("nc,nc->n", pull, q[:, a:b])
            now = scales[:, a]
            new = as_stored(now + np.divide(gain, power, out=np.zeros_like(gain), where=power > 0))
            step = new - now
            keep = step * (step * power - 2 * gain) < 0
            scales[:, a:b] = np.where(keep[:, None], new[:, None], now[:, None])
            e[:, i:j] = w[:, a:b] - q[:, a:b] * scales[:, a:b]
            pull = e @ span.h[:, i:j]
        for c in range(j - i):
            best = q[:, a + c] * scales[:, a + c] + pull[:, c] / h[c, c]
            integer = rounded(best[:, None], scales[:, a + c], like.scheme)[:, 0]
            change = (integer - q[:, a + c]) * scales[:, a + c]
            if change.any():
                q[:, a + c] = integer
                e[:, i + c] -= change
                pull -= change[:, None] * h[c]


def packed(q: np.ndarray, scales: np.ndarray, like: QTensor) -> QTensor:
    """Integers (n, K*C) and the scale of each weight -> int4."""
    n, inputs, taps, group = len(q), like.inputs, like.taps, like.group
    whole = -(-inputs // group) * group
    wide = np.zeros((2, n, taps, whole), np.float32)
    wide[0, :, :, :inputs], wide[1, :, :, :inputs] = q.reshape(n, taps, inputs), scales.reshape(n, taps, inputs)
    parts = wide.reshape(2, n, taps, whole // group, group)
    return encoded_int4(parts[0].astype(np.int8), parts[1, ..., 0], inputs, taps, group)


def better(w: np.ndarray, judges: np.ndarray, one: QTensor, other: QTensor) -> QTensor:
    """The rounding with the smaller error of the outputs, on inputs that it was not made for."""
    first, second = (float(np.square(judges @ (w - t.dequantize()).T).sum()) for t in (one, other))
    return one if first <= second else other
