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
from sopro_np.ops.quant import GROUP, SCHEMES, QTensor, quantize

pytestmark = on_kernels
NUMPY, NATIVE = ops.TABLES["numpy"], ops.TABLES["native"]
SIZES = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 31, 32, 33, 48, 64, 65, 100]))
ROWS = st.one_of(st.just(1), st.integers(2, 40))
SCALES = st.sampled_from([1e-40, 1e-12, 1e-4, 1.0, 30.0, 1e4, 1e15])
SEEDS, COINS = st.integers(0, 2**32 - 1), st.booleans()
TINY = 1e-30


def both(name: str, *arguments: Any, **more: Any) -> tuple[np.ndarray, np.ndarray]:
    """(native, NumPy), neither of which may change an argument."""
    before = [a.copy() for a in arguments if isinstance(a, np.ndarray)]
    with np.errstate(over="ignore", under="ignore"):
        results = NATIVE[name](*arguments, **more), NUMPY[name](*arguments, **more)
    assert all(np.array_equal(a, b) for a, b in zip((a for a in arguments if isinstance(a, np.ndarray)), before))
    return results


def part(rows: np.ndarray, cut: int | None) -> tuple[np.ndarray | None, np.ndarray]:
    """(past, x): cut somewhere, or no past at all."""
    return (None, rows) if cut is None else (rows[: cut % (len(rows) + 1)].copy(), rows[cut % (len(rows) + 1) :].copy())


def size_of(rows: np.ndarray, w: QTensor, stride: int, dilation: int) -> np.ndarray:
    """The sum of the sizes of all that is added up in a product."""
    big = QTensor("fp32", w.shape, np.abs(w.dequantize()), None, w.taps)
    return NUMPY["conv"](np.abs(rows), big, None, stride, dilation)


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("scheme", SCHEMES)
@given(
    frames=ROWS, c=SIZES, n=SIZES, taps=st.integers(1, 4), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    cut=st.none() | st.integers(0, 200), pre=st.sampled_from([None, "elu"]), scale=SCALES, seed=SEEDS, biased=COINS,
    added=COINS,
)  # fmt: skip
def test_conv(scheme, frames, c, n, taps, stride, dilation, cut, pre, scale, seed, biased, added):
    rows = normal(seed, (taps - 1) * dilation + (frames - 1) * stride + 1, c, scale=scale)
    w = quantize(normal(seed + 1, n, taps * c) * np.exp(normal(seed + 2, n, 1)), scheme, taps)
    past, x = part(rows, cut)
    bias = normal(seed + 3, n, scale=scale) if biased else None
    residual = normal(seed + 4, frames, n, scale=scale) if added else None
    y = NATIVE["conv"](x, NATIVE["pack"](w), bias, stride, dilation, past, pre, residual)
    expected = NUMPY["conv"](x, NUMPY["pack"](w), bias, stride, dilation, past, pre, residual)
    size = size_of(rows, w, stride, dilation) + (0 if bias is None else np.abs(bias))
    limit = 2e-6 * (size + (0 if residual is None else np.abs(residual))) + TINY
    if pre:  # e^x - 1 loses what is smaller than 1e-7
        limit = limit + 2e-7 * size_of(np.ones_like(rows), w, stride, dilation)
    if pre and scheme.startswith("int"):  # and then a number may be rounded to the other neighbour
        limit = limit + 2 * np.abs(rows).max() / 127 * np.abs(w.dequantize()).max()
    within(y, expected, limit)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("act", [None, "gelu", "glu", "tanh"])
@given(
    frames=ROWS, c=SIZES, n=SIZES, size=st.sampled_from([1e-4, 1.0, 30.0]), seed=SEEDS, biased=COINS, added=COINS,
    scaled=st.sampled_from([None, "number", "vector"]),
)  # fmt: skip
def test_linear(scheme, act, frames, c, n, size, seed, biased, added, scaled):
    outputs = 2 * n if act == "glu" else n
    x, w = normal(seed, frames, c, scale=size), quantize(normal(seed + 1, outputs, c, scale=c**-0.5), scheme)
    rest = (
        normal(seed + 2, outputs) if biased else None,
        act,
        {None: None, "number": np.float32(-0.37), "vector": normal(seed + 3, n)}[scaled],
        normal(seed + 4, frames, n) if added else None,
    )
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


@pytest.mark.parametrize("scheme", SCHEMES)
@given(n=SIZES, c=SIZES, seed=SEEDS)
def test_pack(scheme, n, c, seed):
    """Unit vectors ask for the weights themselves."""
    w = quantize(normal(seed, n, c), scheme)
    y = NATIVE["linear"](np.eye(c, dtype=np.float32), NATIVE["pack"](w))
    stored = w.dequantize().T
    within(y, stored, 0 if w.scale is None else 3e-7 * np.abs(stored))


# ---------------------------------------------------------------- everything else


@given(
    frames=ROWS, c=SIZES, taps=st.integers(1, 9), dilation=st.integers(1, 4), future=st.integers(0, 12), seed=SEEDS,
    cut=st.none() | st.integers(0, 200), scale=SCALES, biased=COINS, added=COINS,
)  # fmt: skip
def test_depthwise_conv(frames, c, taps, dilation, future, seed, cut, scale, biased, added):
    count = frames + (taps - 1) * dilation
    future = min(future, count - 1)
    rows, w = normal(seed, count - future, c, scale=scale), normal(seed + 1, taps, c)
    bias, residual = (normal(seed + 2, c) if biased else None), (normal(seed + 3, frames, c) if added else None)
    past, x = part(rows, cut)
    y, expected = both("depthwise_conv", x, w, bias, dilation, past, future, residual)
    sizes = [None if a is None else np.abs(a) for a in (x, w, bias, past, residual)]
    size = NUMPY["depthwise_conv"](sizes[0], sizes[1], sizes[2], dilation, sizes[3], future, sizes[4])
    within(y, expected, 2e-6 * size + TINY)


@given(past=st.integers(0, 12), frames=st.integers(0, 15), c=SIZES, seed=SEEDS)
def test_remember(past, frames, c, seed):
    x, tails = normal(seed, frames, c), [normal(seed + 1, past, c) for _ in range(2)]
    NATIVE["push_history"](tails[0], x)
    NUMPY["push_history"](tails[1], x)
    assert np.array_equal(*tails)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(rows=SIZES, d=SIZES, frames=st.integers(0, 9), terms=st.integers(1, 6), added=COINS, seed=SEEDS)
def test_embed_and_embed_sum(scheme, rows, d, frames, terms, added, seed):
    table, ids = quantize(normal(seed, rows, d), scheme), np.random.default_rng(seed).integers(0, rows, (frames, terms))
    y, expected = both("embed", ids[:, 0], table)
    assert np.array_equal(y, expected)
    weights, residual = normal(seed + 1, terms), normal(seed + 2, frames, d) if added else None
    y, expected = both("embed_sum", ids, table, weights, residual)
    assert np.array_equal(y, expected)  # both multiply, then add, in the same order


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
def test_match(frames, c, scale, seed, clamp):
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
    within(*both("attention", q, k, v, heads, first), 4e-6 * np.abs(v).max())


@given(frames=ROWS, half=SIZES, heads=st.integers(1, 4), seed=SEEDS)
def test_rope(frames, half, heads, seed):
    x, angle = normal(seed, frames, 2 * heads * half), normal(seed + 1, frames, half, scale=100)
    within(*both("rope", x, np.cos(angle), np.sin(angle), heads), 1e-6 * (1 + np.abs(x).max()))


@given(frames=ROWS, c=SIZES, values=SIZES, seed=SEEDS)
def test_nearest(frames, c, values, seed):
    assert np.array_equal(*both("nearest_row", normal(seed, frames, c), normal(seed + 1, values, c)))


@given(
    values=SIZES, scale=st.sampled_from([0.1, 1.0, 30.0]), seed=SEEDS, u=st.floats(0, 0.999), masked=COINS,
    temperature=st.sampled_from([0.0, 0.7, 1.0, 1.05]), top_k=st.sampled_from([0, 1, 3, 50]),
    top_p=st.none() | st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)  # fmt: skip
def test_draw(values, scale, seed, temperature, top_k, top_p, u, masked):
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
def test_join(counts, c, seed):
    parts = [normal(seed + i, n, c) for i, n in enumerate(counts)]
    assert np.array_equal(NATIVE["concat"](parts), NUMPY["concat"](parts))


@given(frames=ROWS, c=SIZES, n=SIZES, seed=SEEDS, scheme=st.sampled_from(SCHEMES))
def test_release(frames, c, n, seed, scheme):
    """A weight that nobody packed: the same result before and after what was prepared for it is forgotten."""
    x, w = normal(seed, frames, c), quantize(normal(seed + 1, n, c), scheme)
    expected = NATIVE["linear"](x, NATIVE["pack"](w))
    for _ in range(3):
        assert np.array_equal(NATIVE["linear"](x, w), expected)
        NATIVE["release"]()
    assert np.array_equal(NATIVE["linear"](x, w), expected)
    gone = weakref.ref(w)
    del w
    NATIVE["release"]()
    assert gone() is None, "somebody still holds a weight that nobody needs"


@given(frames=st.integers(1, 3), c=SIZES, seed=SEEDS, steps=st.integers(1, 4))
def test_capture(frames, c, seed, steps):
    """Recorded and replayed: the bits of direct calls."""
    with ops.using("native"):
        w, gain = ops.pack(quantize(normal(seed, c, c, scale=c**-0.5), "int8")), normal(seed + 1, c)

        def step(x: np.ndarray) -> np.ndarray:
            return ops.linear(ops.rms_norm(x, gain), w, act="gelu", residual=x)

        recorded: Callable[[np.ndarray], np.ndarray] = ops.capture(step)
        inputs = [normal(seed + 2 + i, frames, c) for i in range(steps)]
        results = [recorded(x) for x in inputs]
        assert all(np.array_equal(y, step(x)) for x, y in zip(inputs, results, strict=True))


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
        ("attention", a(3, 8), a(4, 8), a(5, 8), 2), ("attention", a(3, 8), a(4, 6), a(4, 6), 2),
        ("attention", a(3, 8), a(4, 8), a(4, 8), 3),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="do not fit"):
            NATIVE[name](*arguments)


def test_nothing_is_left_out():
    tests = " ".join(name.removeprefix("test_") for name in globals() if name.startswith("test_"))
    assert [name for name in ops.NAMES if name not in tests] == []
