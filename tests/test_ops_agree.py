"""Every operation on native kernels against the same one in NumPy, on this CPU's best target or SOPRO_NP_TARGET.

Needs no torch, so it also runs on emulated CPUs: SOPRO_NP_HYPOTHESIS=few. What integers compute must be exact where
the scales are powers of two; otherwise the two may differ by about 1e-6 of the size of what they add up.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import normal, on_kernels, within
from hypothesis import given
from hypothesis import strategies as st

from sopro_np import ops
from sopro_np.errors import FormatError, OpsError
from sopro_np.ops.native.capture import MOST_GRAPHS, Graphs, capturing
from sopro_np.ops.quant import FORMATS, GROUP, QTensor, quantize
from sopro_np.precision import MODES, precise

pytestmark = on_kernels
NUMPY, NATIVE = ops.TABLES["numpy"], ops.TABLES["native"]
SIZES = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 31, 32, 33, 48, 64, 65, 100]))
ROWS = st.one_of(st.just(1), st.integers(2, 40))
SCALES = st.sampled_from([1e-40, 1e-12, 1e-4, 1.0, 30.0, 1e4, 1e15])
SEEDS, COINS = st.integers(0, 2**32 - 1), st.booleans()
TINY = 1e-30
NO_NUMBERS = (np.nan, np.inf, -np.inf)


def both(name: str, *arguments: Any, **more: Any) -> tuple[np.ndarray, np.ndarray]:
    """(native, NumPy), neither of which may change an argument."""
    before = [a.copy() for a in arguments if isinstance(a, np.ndarray)]
    with np.errstate(over="ignore", under="ignore"):
        results = NATIVE[name](*arguments, **more), NUMPY[name](*arguments, **more)
    assert all(np.array_equal(a, b) for a, b in zip((a for a in arguments if isinstance(a, np.ndarray)), before))
    return results


def fit(c: int, name: str) -> int:
    """C or somewhat more, so that it divides into the groups of a format."""
    group = FORMATS[name].group
    return c if group == GROUP else -(-c // group) * group


def part(rows: np.ndarray, cut: int | None) -> tuple[np.ndarray | None, np.ndarray]:
    """(past, x): cut somewhere, or no past at all."""
    return (None, rows) if cut is None else (rows[: cut % (len(rows) + 1)].copy(), rows[cut % (len(rows) + 1) :].copy())


def size_of(rows: np.ndarray, w: QTensor, stride: int, dilation: int) -> np.ndarray:
    """The sum of the sizes of all that is added up in a product."""
    big = QTensor("fp32", w.shape, np.abs(w.dequantize()), None, w.taps)
    return NUMPY["conv"](np.abs(rows), big, None, stride, dilation)


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("scheme", FORMATS)
@given(
    frames=ROWS, c=SIZES, n=SIZES, taps=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    cut=st.none() | st.integers(0, 200), pre=st.sampled_from([None, "elu"]), scale=SCALES, seed=SEEDS, biased=COINS,
    added=COINS, mode=st.sampled_from(MODES),
)  # fmt: skip
def test_conv(scheme, frames, c, n, taps, stride, dilation, cut, pre, scale, seed, biased, added, mode):
    c = fit(c, scheme)
    rows = normal(seed, (taps - 1) * dilation + (frames - 1) * stride + 1, c, scale=scale)
    w = quantize(normal(seed + 1, n, taps * c) * np.exp(normal(seed + 2, n, 1)), scheme, taps)
    past, x = part(rows, cut)
    bias = normal(seed + 3, n, scale=scale) if biased else None
    residual = normal(seed + 4, frames, n, scale=scale) if added else None
    with precise(mode):
        y = NATIVE["conv"](x, NATIVE["pack"](w), bias, stride, dilation, past, pre, residual)
        expected = NUMPY["conv"](x, NUMPY["pack"](w), bias, stride, dilation, past, pre, residual)
    size = size_of(rows, w, stride, dilation) + (0 if bias is None else np.abs(bias))
    limit = 2e-6 * (size + (0 if residual is None else np.abs(residual))) + TINY
    if pre:  # e^x - 1 loses what is smaller than 1e-7
        limit = limit + 2e-7 * size_of(np.ones_like(rows), w, stride, dilation)
    if pre and scheme.startswith("int"):  # and then a number may be rounded to the other neighbour
        limit = limit + 2 * np.abs(rows).max() / 127 * np.abs(w.dequantize()).max()
    within(y, expected, limit)


@pytest.mark.parametrize("scheme", FORMATS)
@given(
    frames=st.integers(1, 200), c=st.sampled_from([8, 16, 32, 64, 128]), taps=st.integers(1, 4),
    stride=st.integers(1, 2), dilation=st.integers(1, 3), cut=st.none() | st.integers(0, 200), scale=SCALES, seed=SEEDS,
    biased=COINS, added=COINS, mode=st.sampled_from(MODES),
)  # fmt: skip
def test_one_output_is_one_of_many(scheme, frames, c, taps, stride, dilation, cut, scale, seed, biased, added, mode):
    """Where there is a single output, lanes are rows: the bits of the first of seventeen outputs."""
    c = fit(c, scheme)
    rows = normal(seed, (taps - 1) * dilation + (frames - 1) * stride + 1, c, scale=scale)
    many = normal(seed + 1, 17, taps * c) * np.exp(normal(seed + 2, 17, 1))
    past, x = part(rows, cut)
    bias = normal(seed + 3, 17, scale=scale) if biased else None
    residual = normal(seed + 4, frames, 17, scale=scale) if added else None

    def first(n: int) -> np.ndarray:
        w = NATIVE["pack"](quantize(many[:n], scheme, taps))
        own = None if bias is None else bias[:n], stride, dilation, past, "elu"
        rest = None if residual is None else np.ascontiguousarray(residual[:, :n])
        with precise(mode):
            return NATIVE["conv"](x, w, *own, rest)[:, 0]

    assert np.array_equal(first(1), first(17), equal_nan=True)


@pytest.mark.parametrize("scheme", FORMATS)
@given(
    frames=st.integers(1, 90), c=SIZES, n=SIZES, taps=st.integers(1, 3), seed=SEEDS, mode=st.sampled_from(MODES),
)  # fmt: skip
def test_a_row_does_not_know_its_neighbours(scheme, frames, c, n, taps, seed, mode):
    """Tiles of any number of rows, and what is left over beside them: each as it is alone, however bad others are."""
    c = fit(c, scheme)
    rows, w = normal(seed, frames + taps - 1, c), NATIVE["pack"](quantize(normal(seed + 1, n, taps * c), scheme, taps))
    rows[::3, 0] *= 30  # peaks
    with precise(mode):
        together = NATIVE["conv"](rows, w)
        assert len(together) == frames
        for t in range(frames):
            assert np.array_equal(NATIVE["conv"](rows[t : t + taps], w), together[t : t + 1])


@pytest.mark.parametrize("scheme", FORMATS)
@pytest.mark.parametrize("act", [None, "gelu", "glu", "tanh"])
@given(
    frames=ROWS, c=SIZES, n=SIZES, size=st.sampled_from([1e-4, 1.0, 30.0]), seed=SEEDS, biased=COINS, added=COINS,
    scaled=st.sampled_from([None, "number", "vector"]), mode=st.sampled_from(MODES),
)  # fmt: skip
def test_linear(scheme, act, frames, c, n, size, seed, biased, added, scaled, mode):
    c = fit(c, scheme)
    outputs = 2 * n if act == "glu" else n
    x, w = normal(seed, frames, c, scale=size), quantize(normal(seed + 1, outputs, c, scale=c**-0.5), scheme)
    rest = (
        normal(seed + 2, outputs) if biased else None,
        act,
        {None: None, "number": np.float32(-0.37), "vector": normal(seed + 3, n)}[scaled],
        normal(seed + 4, frames, n) if added else None,
    )
    with precise(mode):
        y, expected = (table["linear"](x, table["pack"](w, act), *rest) for table in (NATIVE, NUMPY))
    spread = size_of(x, w, 1, 1) + (0 if rest[0] is None else np.abs(rest[0]))
    if act == "glu":
        spread = spread[:, :n] + np.abs(spread[:, :n]) * spread[:, n:]  # the gate's slope is at most 1/4
    limit = 2e-6 * (1.2 * spread + 1e-2)
    limit = limit * (1 if rest[2] is None else np.abs(rest[2])) + 1e-6 * np.abs(expected)
    within(y, expected, limit + (0 if rest[3] is None else 1e-6 * np.abs(rest[3])))


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@given(
    frames=ROWS, c=SIZES, n=SIZES, taps=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    cut=st.none() | st.integers(0, 200), seed=SEEDS, extreme=COINS, biased=COINS, scales=st.integers(-40, 40),
)  # fmt: skip
def test_integers_are_exact(scheme, frames, c, n, taps, stride, dilation, cut, seed, extreme, biased, scales):
    """Scales are powers of two and sums stay below 2^24, so the float result is exact; also for +-127 everywhere."""
    rng, top = np.random.default_rng(seed), 127 if scheme == "int8" else 7
    count = (taps - 1) * dilation + (frames - 1) * stride + 1
    x, w = rng.integers(-127, 128, (count, c)), rng.integers(-top, top + 1, (n, taps, c))
    if extreme:
        x, w = 127 * np.sign(x + 0.5), top * np.sign(w + 0.5)
    x[:, 0], w[:, :, ::GROUP] = -127, top  # the largest of every row and of every group, so the scales are known
    rows, w = (x * 2.0**scales).astype(np.float32), w.reshape(n, -1).astype(np.float32)
    bias = rng.integers(-1000, 1000, n).astype(np.float32) * np.float32(2.0**scales) if biased else None
    past, x = part(rows, cut)
    weight = quantize(w, scheme, taps)
    assert np.array_equal(weight.dequantize(), w)
    y = NATIVE["conv"](x, NATIVE["pack"](weight), bias, stride, dilation, past)
    whole = rows.astype(np.float64)
    expected = np.zeros((frames, n))
    for k in range(taps):
        expected += whole[k * dilation :][::stride][:frames] @ w[:, k * c : (k + 1) * c].T.astype(np.float64)
    expected = (expected + (0 if bias is None else bias)).astype(np.float32)
    assert np.array_equal(y, expected)
    assert np.array_equal(NUMPY["conv"](x, weight, bias, stride, dilation, past), expected)


@given(
    frames=ROWS, c=SIZES, n=SIZES, taps=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    cut=st.none() | st.integers(0, 200), seed=SEEDS, scales=st.integers(-40, 40), lowest=st.integers(0, 255),
)  # fmt: skip
def test_integers_with_a_zero_point_are_exact(frames, c, n, taps, stride, dilation, cut, seed, scales, lowest):
    """Rows from -lowest to 255 - lowest: every one of the 256 steps is an integer, wherever zero lies."""
    rng = np.random.default_rng(seed)
    count, c = (taps - 1) * dilation + (frames - 1) * stride + 1, c + 1
    x, w = rng.integers(-lowest, 256 - lowest, (count, c)), rng.integers(-127, 128, (n, taps, c))
    x[:, 0], x[:, 1], w[:, 0, 0] = -lowest, 255 - lowest, 127
    rows, w = (x * 2.0**scales).astype(np.float32), w.reshape(n, -1).astype(np.float32)
    past, x = part(rows, cut)
    weight = quantize(w, "int8-asymmetric", taps)
    expected = np.zeros((frames, n))
    for k in range(taps):
        expected += rows.astype(np.float64)[k * dilation :][::stride][:frames] @ w[:, k * c : (k + 1) * c].T
    for table in (NATIVE, NUMPY):
        assert np.array_equal(table["conv"](x, table["pack"](weight), None, stride, dilation, past), expected)


@pytest.mark.parametrize("scheme", ["int8", "int8-asymmetric", "int4", "int4-64"])
@given(frames=ROWS, c=SIZES, n=SIZES, seed=SEEDS, peak=st.floats(1, 1000))
def test_precision(scheme, frames, c, n, seed, peak):
    """16 bits bring what 8 bits lose back, but for a 256th; adaptive rows are one or the other."""
    c = fit(c, scheme)
    x, w = normal(seed, frames, c), quantize(normal(seed + 1, n, c), scheme)
    x[::2, 0] *= np.float32(peak)
    for table in (NATIVE, NUMPY):
        weight = table["pack"](w)
        found = {}
        for mode in MODES:
            with precise(mode):
                found[mode] = table["linear"](x, weight)
        step = np.abs(x).max(axis=1, keepdims=True) / 32000
        limit = 2e-6 * size_of(x, w, 1, 1) + step * np.abs(w.dequantize()).sum(axis=1)
        within(found["fine"], x @ w.dequantize().T, limit)
        for fast, adaptive, fine in zip(*(found[mode] for mode in MODES), strict=True):
            assert np.array_equal(adaptive, fast) or np.array_equal(adaptive, fine)
        crest = np.abs(x).max(axis=1) / np.sqrt(np.square(x).mean(axis=1) + TINY)
        for row in np.flatnonzero(crest < 3.5):
            if scheme != "int8-asymmetric":
                assert np.array_equal(found["adaptive"][row], found["fast"][row])
        for row in np.flatnonzero(crest > 9):
            assert np.array_equal(found["adaptive"][row], found["fine"][row])


@pytest.mark.parametrize("scheme", FORMATS)
@given(n=SIZES, c=SIZES, seed=SEEDS)
def test_pack(scheme, n, c, seed):
    """Unit vectors ask for the weights themselves."""
    c = fit(c, scheme)
    w = quantize(normal(seed, n, c), scheme)
    y = NATIVE["linear"](np.eye(c, dtype=np.float32), NATIVE["pack"](w))
    stored = w.dequantize().T
    within(y, stored, 0 if w.scale is None else 3e-7 * np.abs(stored))


# ---------------------------------------------------------------- everything else


@given(
    frames=ROWS, c=SIZES, taps=st.integers(1, 9), dilation=st.integers(1, 4), future=st.integers(0, 12), seed=SEEDS,
    cut=st.none() | st.integers(0, 200), scale=SCALES, biased=COINS, added=COINS, phases=st.integers(1, 3),
)  # fmt: skip
def test_depthwise_conv(frames, c, taps, dilation, future, seed, cut, scale, biased, added, phases):
    count = frames + (taps - 1) * dilation
    future = min(future, count - 1)
    rows, w = normal(seed, count - future, c, scale=scale), normal(seed + 1, taps, phases * c)
    bias, residual = (
        (normal(seed + 2, c) if biased else None),
        (normal(seed + 3, phases * frames, c) if added else None),
    )
    past, x = part(rows, cut)
    y, expected = both("depthwise_conv", x, w, bias, dilation, past, future, residual, phases)
    sizes = [None if a is None else np.abs(a) for a in (x, w, bias, past, residual)]
    size = NUMPY["depthwise_conv"](sizes[0], sizes[1], sizes[2], dilation, sizes[3], future, sizes[4], phases)
    within(y, expected, 2e-6 * size + TINY)
    for phase in range(phases):  # each is a convolution by itself
        one = NATIVE["depthwise_conv"](x, w[:, phase * c : (phase + 1) * c].copy(), bias, dilation, past, future,
                                       None if residual is None else residual[phase::phases].copy())  # fmt: skip
        assert np.array_equal(y[phase::phases], one)


@given(past=st.integers(0, 12), frames=st.integers(0, 15), c=SIZES, seed=SEEDS)
def test_push_history(past, frames, c, seed):
    x, tails = normal(seed, frames, c), [normal(seed + 1, past, c) for _ in range(2)]
    NATIVE["push_history"](tails[0], x)
    NUMPY["push_history"](tails[1], x)
    assert np.array_equal(*tails)


@given(rows=st.integers(0, 20), frames=st.integers(0, 9), first=st.integers(0, 9), c=SIZES, seed=SEEDS)
def test_write_rows(rows, frames, first, c, seed):
    x, targets = normal(seed, frames, c), [normal(seed + 1, rows + first + frames, c) for _ in range(2)]
    NATIVE["write_rows"](targets[0], x, first)
    NUMPY["write_rows"](targets[1], x, first)
    assert np.array_equal(*targets)


@given(frames=st.integers(0, 9), heads=st.integers(1, 4), values=SIZES, first=st.integers(0, 3), seed=SEEDS, ties=COINS)
def test_argmax_rows(frames, heads, values, first, seed, ties):
    """The first of equals; columns beside those of the heads stay."""
    logits = normal(seed, frames, heads * values, scale=2)
    logits = np.round(logits) if ties else logits
    offsets = np.arange(heads) * 1000 + 7
    ids = [np.random.default_rng(seed).integers(0, 50, (frames, first + heads + 1)) for _ in range(2)]
    NATIVE["argmax_rows"](logits, ids[0], first, offsets)
    NUMPY["argmax_rows"](logits, ids[1], first, offsets)
    assert np.array_equal(*ids)


@given(frames=st.integers(1, 9), heads=st.integers(1, 4), values=SIZES, seed=SEEDS, bad=st.sampled_from(NO_NUMBERS))
def test_argmax_rows_of_what_is_no_number(frames, heads, values, seed, bad):
    """Wherever it stands, among the lanes or behind them: no code is as likely as another, so none is chosen."""
    logits = normal(seed, frames, heads * values)
    logits.flat[np.random.default_rng(seed).integers(logits.size)] = bad
    for table in (NATIVE, NUMPY):
        with pytest.raises(FormatError, match="NaN"):
            table["argmax_rows"](logits, np.zeros((frames, heads), np.int64), 0, np.zeros(heads, np.int64))


@pytest.mark.parametrize("scheme", FORMATS)
@given(rows=SIZES, d=SIZES, frames=st.integers(0, 9), terms=st.integers(1, 6), added=COINS, seed=SEEDS)
def test_embed_and_embed_sum(scheme, rows, d, frames, terms, added, seed):
    d = fit(d, scheme)
    table, ids = quantize(normal(seed, rows, d), scheme), np.random.default_rng(seed).integers(0, rows, (frames, terms))
    weights, residual = normal(seed + 1, terms), normal(seed + 2, frames, d) if added else None
    y, expected = both("embed", ids[:, -1], table, residual)  # a column: rows of ids that lie apart
    assert np.array_equal(y, expected)
    y, expected = both("embed_sum", ids, table, weights, residual)
    assert np.array_equal(y, expected)  # both multiply, then add, in the same order
    few = terms // 2
    y, expected = both("embed_sum", ids[:, few:], table, weights[few:], residual)
    assert np.array_equal(y, expected)


@given(frames=ROWS, c=SIZES, scale=SCALES, seed=SEEDS, weighted=COINS, shifted=COINS, eps=st.sampled_from([1e-6, 1e-3]))
def test_rms_norm_and_layer_norm(frames, c, scale, seed, weighted, shifted, eps):
    x, w, b = normal(seed, frames, c, scale=scale), normal(seed + 1, c), normal(seed + 2, c)
    rest = w if weighted else None, eps, b if shifted else None
    y, expected = both("rms_norm", x, *rest)
    within(y, expected, 2e-6 * (np.abs(expected) + (np.abs(b) if shifted else 0)) + TINY)
    y, expected = both("layer_norm", x, w, b, eps)
    lost = np.abs(x).max() / np.sqrt(x.astype(np.float64).var(axis=1, keepdims=True) + eps)
    within(y, expected, 2e-6 * ((1 + lost) * (1 + np.abs(w)) + np.abs(expected)))


@given(frames=ROWS, c=SIZES, scale=SCALES, seed=SEEDS, clamp=st.sampled_from([None, 0.0, 0.5, 10.0]))
def test_match_rms(frames, c, scale, seed, clamp):
    y, expected = both("match_rms", normal(seed, frames, c, scale=scale), normal(seed + 1, frames, c), clamp)
    within(y, expected, 2e-6 * np.abs(expected) + TINY)


@given(frames=ROWS, c=SIZES, scale=SCALES, seed=SEEDS)
def test_sigmoid_and_gelu(frames, c, scale, seed):
    x = normal(seed, frames, c, scale=scale)
    within(*both("sigmoid", x), 5e-7)
    y, expected = both("gelu", x)
    within(y, expected, 1e-6 * np.abs(x) + TINY)


@given(frames=ROWS, c=SIZES, scale=SCALES, seed=SEEDS, hidden=COINS)
def test_softmax(frames, c, scale, seed, hidden):
    x = normal(seed, frames, c, scale=scale)
    if hidden:
        x[:, 1::3] = -np.inf  # never the whole row
    within(*both("softmax", x), 1e-6)
    within(*both("softmax", x[0]), 1e-6)


@given(
    frames=ROWS, d=st.one_of(st.integers(1, 20), st.sampled_from([32, 64])), heads=st.integers(1, 3), keys=SIZES,
    first=st.none() | st.integers(0, 40), seed=SEEDS,
)  # fmt: skip
def test_attention(frames, d, heads, keys, first, seed):
    keys = keys if first is None else first + frames
    q, k, v = (normal(seed + i, n, heads * d) for i, n in enumerate((frames, keys, keys)))
    y, expected = both("attention", q, k, v, heads, first)
    within(y, expected, 4e-6 * np.abs(v).max())
    more_k, more_v = (np.concatenate([a, np.full((5, heads * d), np.nan, np.float32)]) for a in (k, v))
    assert np.array_equal(NATIVE["attention"](q, more_k, more_v, heads, first, keys), y)  # room that is not used yet
    assert np.array_equal(NUMPY["attention"](q, more_k, more_v, heads, first, keys), expected)


@given(frames=ROWS, half=SIZES, heads=st.integers(1, 4), first=st.integers(0, 9), seed=SEEDS)
def test_rope(frames, half, heads, first, seed):
    x, angle = normal(seed, frames, 2 * heads * half), normal(seed + 1, first + frames + 2, half, scale=100)
    within(*both("rope", x, np.cos(angle), np.sin(angle), heads, first), 1e-6 * (1 + np.abs(x).max()))


@given(frames=ROWS, c=SIZES, values=SIZES, seed=SEEDS)
def test_nearest_row(frames, c, values, seed):
    assert np.array_equal(*both("nearest_row", normal(seed, frames, c), normal(seed + 1, values, c)))


@given(
    values=SIZES, scale=st.sampled_from([0.1, 1.0, 30.0]), seed=SEEDS, u=st.floats(0, 0.999), masked=COINS,
    temperature=st.sampled_from([0.0, 0.7, 1.0, 1.05]), top_k=st.sampled_from([0, 1, 3, 50]),
    top_p=st.none() | st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)  # fmt: skip
def test_sample(values, scale, seed, temperature, top_k, top_p, u, masked):
    """The same code, or the neighbour where a threshold lies within rounding."""
    logits = normal(seed, values, scale=scale)
    if masked:
        logits[values // 2] = -np.inf
    seen = [int(code) for code in np.random.default_rng(seed).integers(0, values, 5)]
    near = [] if top_p in (None, 0.0, 1.0) else [top_p - 1e-5, top_p + 1e-5]
    around = [
        NUMPY["sample"](logits, seen, temperature, top_k, p, 1.1, v)
        for p in (top_p, *near)
        for v in (u, max(0.0, u - 1e-5), min(u + 1e-5, 0.9999))
    ]
    assert NATIVE["sample"](logits, seen, temperature, top_k, top_p, 1.1, u) in around


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=4), c=SIZES, seed=SEEDS)
def test_concat(counts, c, seed):
    parts = [normal(seed + i, n, c) for i, n in enumerate(counts)]
    assert np.array_equal(NATIVE["concat"](parts), NUMPY["concat"](parts))


@given(frames=ROWS, c=SIZES, n=SIZES, seed=SEEDS, scheme=st.sampled_from(list(FORMATS)))
def test_temporary_packing(frames, c, n, seed, scheme):
    """A weight that nobody packed: the same result inside a scope, outside of one, and after an error in one."""
    c = fit(c, scheme)
    x, w = normal(seed, frames, c), quantize(normal(seed + 1, n, c), scheme)
    expected = NATIVE["linear"](x, NATIVE["pack"](w))
    for table in (NATIVE, NUMPY):
        with table["temporary_packing"](), table["temporary_packing"]():
            within(table["linear"](x, w), expected, 2e-5 * np.abs(expected).max() + TINY)
    with NATIVE["temporary_packing"]():
        for _ in range(3):
            assert np.array_equal(NATIVE["linear"](x, w), expected)
    with pytest.raises(KeyError), NATIVE["temporary_packing"]():
        NATIVE["linear"](x, w)
        raise KeyError
    assert np.array_equal(NATIVE["linear"](x, w), expected)
    gone = weakref.ref(w)
    del w
    assert gone() is None, "somebody still holds a weight that nobody needs"


@given(
    frames=st.integers(1, 3), c=SIZES, seed=SEEDS, scheme=st.sampled_from(list(FORMATS)),
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=7),
)  # fmt: skip
def test_replay(frames, c, seed, scheme, steps):
    """Captured once, replayed with other inputs, other states and other numbers: the bits of direct calls."""
    c = fit(c, scheme)
    with ops.using("native"):
        owner = ops.pack(quantize(normal(seed, c, c, scale=c**-0.5), scheme)), normal(seed + 1, c)
        room = 6 + frames

        def step(state: list[np.ndarray]) -> Callable[..., np.ndarray]:
            def function(x: np.ndarray, first: int) -> np.ndarray:
                h = ops.linear(ops.rms_norm(x, owner[1]), owner[0], act="gelu", residual=x)
                h = ops.depthwise_conv(h, np.ones((3, c), np.float32), past=state[0], residual=h)
                ops.push_history(state[0], h)
                ops.write_rows(state[1], h, first)
                return ops.attention(h, state[1], state[1], 1, first=first, keys=first + frames)

            return function

        states, others = ([[normal(seed + i, n, c) for n in (2, room)] for i in range(3)] for _ in range(2))
        streams = [ops.Arrays(state) for state in states]
        with capturing(Graphs()):
            for which, first in steps:
                x = normal(seed + first, frames, c)
                numbers = [(first, room - frames)]
                y = ops.replay(owner, "step", step(states[which]), (x,), streams[which], numbers)
                assert np.array_equal(y, step(others[which])(x, first))
        assert all(np.array_equal(a, b) for one, other in zip(states, others) for a, b in zip(one, other, strict=True))


def test_what_a_captured_step_must_not_do():
    """Numbers beyond what it was captured for, decisions by numbers, arithmetic that would be lost."""
    x, owner = np.ones((2, 4), np.float32), object()

    def run(function: Callable[..., np.ndarray], *values: int, most: int = 9) -> None:
        with ops.using("native"), capturing(Graphs()):
            for value in values:
                ops.replay(owner, "step", function, (x,), ops.Arrays(()), [(value, most)])

    table = np.ones((12, 2), np.float32)
    run(lambda x, n: ops.rope(x, table, table, 1, n), 1, 2, 3, 9)
    with pytest.raises(OpsError, match="the most are"):
        run(lambda x, n: ops.rope(x, table, table, 1, n), 1, 2, 10)
    with pytest.raises(ValueError, match="do not fit"):  # room for the most, not for what comes first
        run(lambda x, n: ops.rope(x, table, table, 1, n), 1, 2, most=11)
    for wrong in (lambda x, n: ops.sigmoid(x[:1]) if n > 1 else x, lambda x, n: ops.sigmoid(x[: n // 2])):
        with pytest.raises(OpsError, match="must not decide"):
            run(wrong, 4, 4)
    with pytest.raises(OpsError, match="use an operation"):
        run(lambda x, n: x + 1, 4, 4)
    with pytest.raises(OpsError, match="an assignment"):
        run(lambda x, n: x.__setitem__(0, 1) or x, 4, 4)


def test_captured_steps_are_forgotten():
    """The longest unused first, so that there are never more than MOST_GRAPHS; and all of them on request."""
    x = np.ones((2, 4), np.float32)
    graphs = Graphs()
    with ops.using("native"), capturing(graphs):
        for i in range(2 * MOST_GRAPHS):
            for _ in range(2):
                ops.replay(ops, f"step {i}", ops.sigmoid, (x,))
        assert len(graphs.mine.known) == MOST_GRAPHS
        graphs.forget()
        assert not graphs.mine.known
        assert np.array_equal(ops.replay(ops, "step 1", ops.sigmoid, (x,)), ops.sigmoid(x))


def test_a_step_keeps_no_state_alive():
    class Array(np.ndarray):
        pass

    with ops.using("native"), capturing(Graphs()):
        for _ in range(3):
            state = np.ones((2, 4), np.float32).view(Array)
            ops.replay(ops, "step", lambda x, state=state: ops.push_history(state, x) or ops.sigmoid(x),
                       (np.ones((1, 4), np.float32),), ops.Arrays([state]))  # fmt: skip
            gone = weakref.ref(state)
            del state
            assert gone() is None


def test_arrays_that_do_not_fit_are_refused():
    """Kernels trust their addresses, so this must stop before them."""

    def a(*shape: int) -> np.ndarray:
        return np.ones(shape, np.float32)

    w, paired, taps = (
        NATIVE["pack"](quantize(a(6, 8), "int8", n), act) for n, act in ((1, None), (1, "glu"), (2, None))
    )
    for name, *arguments in (
        ("linear", a(3, 7), w), ("linear", a(3, 8), w, a(5)), ("linear", a(3, 8), paired),
        ("linear", a(3, 8), w, None, "glu"), ("linear", a(3, 8), w, None, None, None, a(2, 6)),
        ("linear", a(3, 8), paired, None, "glu", None, a(3, 6)), ("conv", a(3, 8), taps),
        ("conv", a(3, 4), taps, None, 1, 1, a(1, 5)), ("conv", a(3, 4), taps, None, 1, 1, None, None, a(3, 6)),
        ("depthwise_conv", a(3, 8), a(2, 7)), ("depthwise_conv", a(3, 8), a(5, 8)),
        ("depthwise_conv", a(3, 8), a(2, 8), None, 1, a(1, 7)),
        ("depthwise_conv", a(3, 8), a(2, 8), None, 1, None, 0, a(3, 8)),
        ("match_rms", a(3, 8), a(2, 8)), ("push_history", a(2, 8), a(3, 7)), ("concat", [a(2, 8), a(2, 7)]),
        ("write_rows", a(3, 8), a(2, 8), 2), ("write_rows", a(3, 8), a(2, 7), 0),
        ("argmax_rows", a(3, 8), np.zeros((3, 2), np.int64), 1, np.zeros(2, np.int64)),
        ("rope", a(3, 8), a(4, 4), a(4, 4), 1, 2), ("attention", a(3, 8), a(4, 8), a(4, 8), 2, None, 5),
        ("attention", a(3, 8), a(4, 8), a(5, 8), 2), ("attention", a(3, 8), a(4, 6), a(4, 6), 2),
        ("attention", a(3, 8), a(4, 8), a(4, 8), 3),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="do not fit"):
            NATIVE[name](*arguments)


def test_nothing_is_left_out():
    tests = " ".join(name.removeprefix("test_") for name in globals() if name.startswith("test_"))
    assert [name for name in ops.NAMES if name not in tests] == []
