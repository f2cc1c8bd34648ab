"""Rounding by the weights, and by what a model multiplies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import normal
from hypothesis import given
from hypothesis import strategies as st

from sopro_np.convert import calibrated
from sopro_np.convert.calibrated import Calibrated, Inputs, Span, cuts, solved, steps
from sopro_np.convert.rounding import Fitted, Rounding
from sopro_np.ops.quant import FORMATS, QTensor, grouped, quantize, unpack_int4

SEEDS = st.integers(0, 2**32 - 1)
INT4 = st.sampled_from(["int4", "int4-64", "int4-128"])
TAPS = st.integers(1, 3)


def integers(t: QTensor) -> np.ndarray:
    """(N, K*C)."""
    if t.scheme == "int8":
        return t.data
    return unpack_int4(t.data.reshape(len(t.data), t.taps, -1), t.inputs).reshape(t.shape)


def errors(w: np.ndarray, t: QTensor) -> np.ndarray:
    """Squared error of every group."""
    return np.square(grouped((t.dequantize() - w).astype(np.float64), t.taps, t.group)).sum(axis=3)


@given(n=st.integers(1, 5), groups=st.integers(1, 2), taps=TAPS, form=INT4, size=st.sampled_from([0.01, 1.0, 50.0]),
       short=st.integers(0, 31), seed=SEEDS)  # fmt: skip
def test_fitted_is_never_worse(n: int, groups: int, taps: int, form: str, size: float, short: int, seed: int) -> None:
    """In every group, and clearly better over many; scales are float16; a row does not depend on its neighbours."""
    group = FORMATS[form].group
    inputs = groups * group - (short if group == 32 else 0)
    w = normal(seed, n, taps * inputs, scale=size)
    w[0, ::3] = 0
    t, plain = Fitted()("", w, form, taps), Rounding()("", w, form, taps)
    assert (errors(w, t) <= errors(w, plain) * (1 + 1e-3) + 1e-12).all()
    assert np.abs(integers(t) + 0.5).max() <= 7.5
    assert not t.dequantize()[w == 0].any()
    assert t.scale is not None and np.array_equal(t.scale.astype(np.float16).astype(np.float32), t.scale)
    alone = [Fitted()("", row[None], form, taps) for row in w]
    assert np.array_equal(np.concatenate([a.data for a in alone]), t.data)


def test_fitted_gains() -> None:
    w = normal(1, 64, 512)
    plain, fitted, hqq = (errors(w, r("", w, "int4")).sum() for r in (Rounding(), Fitted(), Fitted(10, 0.7)))
    assert fitted < 0.75 * plain
    assert fitted < hqq < 0.8 * plain


@given(n=st.integers(1, 4), scale=st.sampled_from([-0.5, 0.25, 3.0]), seed=SEEDS)
def test_what_is_int4_comes_back(n: int, scale: float, seed: int) -> None:
    """Weights that are integers times a scale already, with the largest at -8."""
    q = np.random.default_rng(seed).integers(-8, 8, (n, 64)).astype(np.float32)
    q[:, ::32] = -8
    assert np.array_equal(Fitted()("", q * np.float32(scale), "int4").dequantize(), q * np.float32(scale))


def test_other_formats_are_rounded_plainly() -> None:
    w = normal(3, 5, 96)
    for form in ("int8", "int8-asymmetric", "fp16", "bf16"):
        t, plain = Fitted()("", w, form), quantize(w, form)
        assert (t.scheme, t.asymmetric) == (plain.scheme, plain.asymmetric)
        assert np.array_equal(t.data, plain.data)


# ---------------------------------------------------------------- calibrated


def correlated(seed: int, rows: int, columns: int) -> np.ndarray:
    return normal(seed, rows, max(2, columns // 4)) @ normal(seed + 1, max(2, columns // 4), columns)


def seen(x: np.ndarray, taps: int, form: str, most: int = calibrated.MOST) -> Inputs:
    inputs = Inputs(FORMATS[form].asymmetric, most)
    chosen = inputs.choose(len(x))
    inputs.add(len(x), chosen, x[chosen].reshape(len(chosen), taps, -1))
    return inputs


@given(taps=TAPS, form=st.sampled_from(["int8", "int8-asymmetric", "int4", "int4-64"]), seed=SEEDS)
def test_calibrated_is_no_worse_by_the_outputs(taps: int, form: str, seed: int) -> None:
    """On the rows set aside, whatever the inputs; and a piece of a matrix is what it is in the whole."""
    w, x = normal(seed, 6, taps * 64), correlated(seed, 40, taps * 64)
    rounding = Calibrated({"w": seen(x, taps, form)})
    t, fitted = rounding("w", w, form, taps), Fitted()("w", w, form, taps)
    judges = rounding.judges("w")
    assert judges is not None and len(judges) == 5
    power = [np.square(judges @ (r.dequantize() - w).T).sum() for r in (t, fitted)]
    assert power[0] <= power[1] * 1.0001
    assert (t.scheme, t.group, t.asymmetric) == (fitted.scheme, fitted.group, fitted.asymmetric)
    low, high = (-8, 7) if t.scheme == "int4" else (-127, 127)
    assert low <= integers(t).min() and integers(t).max() <= high


@pytest.mark.parametrize(("form", "gain"), [("int8", 4), ("int4", 4), ("int4-128", 3)])
def test_calibrated_gains_on_new_inputs(form: str, gain: float) -> None:
    mix = normal(7, 64, 256)
    x, new = normal(5, 800, 64) @ mix, normal(6, 200, 64) @ mix
    w = normal(8, 32, 256)
    rounding = Calibrated({"w": seen(x, 1, form)})
    power = [np.square(new @ (r("w", w, form).dequantize() - w).T).sum() for r in (rounding, Fitted())]
    assert gain * power[0] < power[1]


def test_nothing_known_is_fitted() -> None:
    w = normal(1, 4, 64)
    for inputs in ({}, {"w": seen(normal(2, 5, 64), 1, "int4")}):
        t = Calibrated(inputs)("w", w, "int4")
        assert np.array_equal(t.data, Fitted()("w", w, "int4").data)


@given(form=st.sampled_from(["int8", "int4"]), inputs=st.integers(2, 40), seed=SEEDS)
def test_no_integer_could_be_better(form: str, inputs: int, seed: int) -> None:
    """After some turns: one more or one less anywhere makes e H e' no smaller, if it may be there."""
    w, x = normal(seed, 2, inputs), correlated(seed, 3 * inputs, inputs)
    span, fitted = Span.of(x, 0, inputs, 0.1), Fitted()
    t = solved(w, fitted("", w, form), [span], 40, fitted)
    h, q, back = span.h.astype(np.float64), integers(t).astype(int), t.dequantize().astype(np.float64)
    steps_of = np.broadcast_to(t.scale, q.shape) if form == "int8" else np.repeat(t.scale, 32, axis=1)[:, :inputs]
    for row in range(len(w)):
        e = w[row] - back[row]
        now = e @ h @ e
        for column in range(inputs):
            for change in (-1, 1):
                if (-8 if form == "int4" else -127) <= q[row, column] + change <= (7 if form == "int4" else 127):
                    other = e.copy()
                    other[column] -= change * steps_of[row, column]
                    assert other @ h @ other >= now * (1 - 1e-3)


@given(taps=st.integers(1, 9), inputs=st.integers(1, 9000), form=st.sampled_from(["int8", "int4"]))
def test_spans_cover_every_column_once(taps: int, inputs: int, form: str) -> None:
    spans = list(cuts(taps, inputs))
    assert [c for a, b in spans for c in (a, b)][1:-1] == [c for a, b in spans[1:] for c in (a, a)]
    assert (spans[0][0], spans[-1][1]) == (0, taps * inputs)
    assert max(b - a for a, b in spans) <= calibrated.WIDEST
    like = QTensor(form, (1, taps * inputs), np.zeros((1, 1)), None, taps)
    found = [step for a, b in spans for step in steps(a, b, like)]
    assert found[0][0] == 0 and found[-1][1] == taps * inputs
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
    if form == "int4":
        assert all(a % inputs % 32 == 0 and a // inputs == (b - 1) // inputs for a, b in found)


@given(rows=st.integers(1, 300), cut=st.integers(0, 300), seed=SEEDS, asymmetric=st.booleans())
def test_which_rows_are_kept(rows: int, cut: int, seed: int, asymmetric: bool) -> None:
    """All while there is room, then an even share; the same however they came; as the engine quantises them."""
    x = normal(seed, rows, 12)
    whole, pieces = Inputs(asymmetric, 64), Inputs(asymmetric, 64)
    for target, parts in ((whole, [x]), (pieces, [x[:cut], x[cut:]])):
        for part in parts:
            chosen = target.choose(len(part))
            target.add(len(part), chosen, part[chosen].reshape(-1, 1, 12))
    assert np.array_equal(whole.rows(), pieces.rows())
    assert whole.seen == rows and (len(whole) == rows if rows <= 64 else 16 <= len(whole) <= 64)
    if rows <= 64:
        step = np.ptp(np.c_[x, np.zeros(rows)], axis=1) / 255 if asymmetric else np.abs(x).max(axis=1) / 127
        assert (np.abs(whole.rows() - x) <= 1.01 * step[:, None]).all()
