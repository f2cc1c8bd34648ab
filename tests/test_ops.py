"""Every operation of the table, in every implementation, against torch or NumPy in float64 (or int64).

Tolerances are about 1e-6 of the operands' size: an implementation may sum in another order and have its own e^x.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from conftest import by_each, normal, within
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from sopro_np import ops  # noqa: E402
from sopro_np.errors import FormatError, OpsError  # noqa: E402
from sopro_np.ops import activations  # noqa: E402
from sopro_np.ops.native.capture import Graphs, capturing  # noqa: E402
from sopro_np.ops.quant import SCHEMES, QTensor, quantize, quantize_rows, unpack_int4  # noqa: E402

SMALL = st.integers(1, 9)
SIZES = st.one_of(SMALL, st.integers(10, 70))
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-4, 0.1, 1.0, 30.0, 1e4])
COINS = st.booleans()
pytestmark = by_each
ACTS = (None, "gelu", "glu", "tanh")


def double(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float64))


def split(draw, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """rows as (past, x), cut anywhere: the past may be None or have no rows, and x may have none."""
    cut = draw(st.none() | st.integers(0, len(rows)))
    return (None, rows) if cut is None else (rows[:cut].copy(), rows[cut:].copy())


# ---------------------------------------------------------------- the table


def test_every_implementation_has_every_operation(implementation: str):
    table = ops.TABLES[implementation]
    assert set(table) == set(ops.NAMES)
    for name in ops.NAMES:
        expected = inspect.signature(ops.TABLES["numpy"][name]).parameters.values()
        own = inspect.signature(table[name]).parameters.values()
        assert [(p.name, p.default) for p in own] == [(p.name, p.default) for p in expected], name
        assert getattr(ops, name) is table[name]


def test_unknown_implementations_and_operations_are_refused():
    with pytest.raises(OpsError, match="cuda"):
        ops.use("cuda")
    with pytest.raises(OpsError, match="cuda"), ops.using("cuda"):
        pass
    with pytest.raises(AttributeError, match="fft"):
        _ = ops.fft


# ---------------------------------------------------------------- products


def wide_product(rows: np.ndarray, w: np.ndarray, k: int, stride: int, dilation: int) -> np.ndarray:
    """A convolution by torch in float64, (T, N)."""
    kernel = double(w).reshape(len(w), k, -1).permute(0, 2, 1)
    return F.conv1d(double(rows).T[None], kernel, stride=stride, dilation=dilation)[0].T.numpy()


def stored_product(rows: np.ndarray, weight: QTensor, stride: int, dilation: int) -> tuple[np.ndarray, np.ndarray]:
    """What the stored numbers amount to, and the sum of their sizes: int64 products where they are integers."""
    if weight.scale is None:
        w, rest = weight.dequantize(), (weight.taps, stride, dilation)
        return wide_product(rows, w, *rest), wide_product(np.abs(rows), np.abs(w), *rest)
    (n, k, c), (q, scale) = (len(weight.data), weight.taps, weight.inputs), quantize_rows(rows)
    if weight.scheme == "int8":
        integers, per_weight = weight.data.reshape(n, k, c), np.repeat(weight.scale, k * c, 1).reshape(n, k, c)
    else:
        integers = unpack_int4(weight.data.reshape(n, k, -1), c)
        per_weight = np.repeat(weight.scale.reshape(n, k, -1), 32, axis=2)[:, :, :c]
    frames = (len(rows) - (k - 1) * dilation - 1) // stride + 1
    total, size = np.zeros((2, frames, n))
    for i in range(k):
        q_i, s_i = (a[i * dilation :][::stride][:frames] for a in (q.astype(np.int64), scale.astype(np.float64)))
        for g in range(0, c, 32):
            dots = q_i[:, g : g + 32] @ integers[:, i, g : g + 32].astype(np.int64).T
            part = dots * s_i[:, None] * per_weight[:, i, g]
            total, size = total + part, size + np.abs(part)
    return total, size


def quantisation(rows: np.ndarray, w: np.ndarray, weight: QTensor, stride: int, dilation: int) -> np.ndarray:
    """The most by which integer products may be off: |x w - qx sx qw sw| <= |qx sx| sw/2 + |w| sx/2 for a pair."""
    q, scale = quantize_rows(rows)
    stored, step = np.abs(q * scale[:, None]), np.repeat(scale[:, None], rows.shape[1], 1)
    c, rest = weight.inputs, (weight.taps, stride, dilation)
    half = np.repeat(weight.scale, weight.shape[1], 1) / 2
    if weight.scheme == "int4":
        per_tap = weight.scale.reshape(len(w), weight.taps, -1)
        half = np.repeat(per_tap, 32, axis=2)[:, :, :c].reshape(w.shape) / 2
    return wide_product(stored, half, *rest) + wide_product(step, np.abs(w) / 2, *rest)


@st.composite
def products(draw):
    """rows (P + R, C), past, x, w (N, K*C), bias or None, residual or None, pre, K, stride, dilation."""
    c, n, k = draw(SIZES), draw(SMALL), draw(st.integers(1, 5))
    stride, dilation, frames = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(SIZES)
    spare = draw(st.integers(0, stride - 1))  # rows behind the last whole step
    count = (k - 1) * dilation + (frames - 1) * stride + 1 + spare
    seed = draw(SEEDS)
    rows = normal(seed, count, c, scale=draw(SCALES)) * np.exp(normal(seed + 1, count, 1))
    w = normal(seed + 2, n, k * c) * np.exp(normal(seed + 3, n, 1))
    bias = normal(seed + 4, n) if draw(COINS) else None
    residual = normal(seed + 5, frames, n, scale=draw(SCALES)) if draw(COINS) else None
    pre = draw(st.sampled_from([None, "elu"]))
    return rows, *split(draw, rows), w, bias, residual, pre, k, stride, dilation


@pytest.mark.parametrize("scheme", SCHEMES)
@given(products())
def test_convolutions(scheme: str, case):
    """The product that is stored (integers: exactly that one), and near the product that was meant."""
    rows, past, x, w, bias, residual, pre, k, stride, dilation = case
    weight = quantize(w, scheme, k)
    given_arrays = [a for a in (past, x, bias, residual) if a is not None]
    before = [a.copy() for a in given_arrays]
    y = ops.conv(x, ops.pack(weight), bias, stride, dilation, past, pre, residual)
    assert all(np.array_equal(a, b) for a, b in zip(before, given_arrays, strict=True)), "an input was changed"
    added = np.zeros(y.shape) + (0 if bias is None else bias) + (0.0 if residual is None else residual)
    sizes = sum(np.abs(a) for a in (bias, residual) if a is not None)
    active = F.elu(double(rows)).numpy() if pre else rows
    if pre is None or weight.scale is None:
        expected, size = stored_product(active, weight, stride, dilation)
        if pre:  # e^x - 1 may be off by 1e-7
            size = size + stored_product(np.full_like(rows, 0.1), weight, stride, dilation)[1]
        within(y, expected + added, 1e-6 * (size + sizes) + 1e-30)
    if weight.scale is not None:  # an ELU's last bit may flip a rounding: only this holds for `pre`
        meant = wide_product(active, w, k, stride, dilation)
        slack = quantisation(active.astype(np.float32), w, weight, stride, dilation)
        within(y, meant + added, 1.001 * slack + 1e-5 * (slack + np.abs(meant) + sizes) + 1e-30)


def epilogue(y: np.ndarray, off: np.ndarray, act: str | None, scale, residual) -> tuple[np.ndarray, np.ndarray]:
    """residual + scale * act(y) in float64, and how far off it may be where y may be off by `off`."""
    if act == "glu":
        half = y.shape[1] // 2
        off = off[:, :half] + np.abs(y[:, :half]) * (off[:, half:] + 1e-6)
        y = F.glu(double(y), 1).numpy()
    elif act is not None:
        off = 1.2 * off + 1e-6 * np.minimum(np.abs(y), 1)
        y = getattr(F, act)(double(y)).numpy()
    if scale is not None:
        y, off = y * scale, off * np.abs(scale)
    size = np.abs(y)
    if residual is not None:
        y, size = y + residual, size + np.abs(residual)
    return y, off + 1e-6 * size


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("scheme", SCHEMES)
@given(
    frames=SIZES, c=SIZES, n=SMALL, size=SCALES, seed=SEEDS,
    biased=COINS, added=COINS, scaled=st.sampled_from([None, "number", "vector"]),
)  # fmt: skip
def test_linear(scheme: str, act: str | None, frames, c, n, size, seed, biased, added, scaled):
    """Every activation, scale and residual around it; and a row knows nothing of its neighbours."""
    outputs = 2 * n if act == "glu" else n
    x = normal(seed, frames, c, scale=size) * np.exp(normal(seed + 1, frames, 1))
    weight = quantize(normal(seed + 2, outputs, c, scale=c**-0.5) * np.exp(normal(seed + 3, outputs, 1)), scheme)
    bias = normal(seed + 4, outputs) if biased else None
    scale = {None: None, "number": np.float32(-0.37), "vector": normal(seed + 5, n)}[scaled]
    residual = normal(seed + 6, frames, n) if added else None
    packed = ops.pack(weight, act)
    y = ops.linear(x, packed, bias, act, scale, residual)
    product, size = stored_product(x, weight, 1, 1)
    shift = np.zeros(outputs, np.float32) if bias is None else bias
    expected, limit = epilogue(product + shift, 1e-6 * (size + np.abs(shift)), act, scale, residual)
    within(y, expected, limit + 1e-30)
    alone = [
        ops.linear(x[t : t + 1], packed, bias, act, scale, None if residual is None else residual[t : t + 1])
        for t in range(frames)
    ]
    if scheme.startswith("int") and act is None:
        assert np.array_equal(y, np.concatenate(alone))
    within(np.concatenate(alone), y.astype(np.float64), 2 * limit + 1e-30)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@pytest.mark.parametrize("c", [1, 31, 1023, 1024, 1025, 2048, 3001, 12345])
def test_long_integer_products_are_exact(scheme: str, c: int):
    """All scales 1, all numbers large and positive: a sum in plain float32 would round on the way."""
    rng, top = np.random.default_rng(c), 127 if scheme == "int8" else 7
    for frames in (1, 2, 5, 9):
        x, w = rng.integers(100, 128, (frames, c)), rng.integers(top - 3, top + 1, (9, c))
        x[:, 0], w[:, ::32] = 127, top  # the largest of each row and each group
        y = ops.linear(x.astype(np.float32), ops.pack(quantize(w.astype(np.float32), scheme)))
        assert np.array_equal(y, (x @ w.T).astype(np.float32))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(c=SIZES, n=SMALL, k=st.integers(1, 4), dilation=st.integers(1, 3), seed=SEEDS, act=st.sampled_from(ACTS))
def test_nothing_in_nothing_out(scheme: str, c: int, n: int, k: int, dilation: int, seed: int, act: str | None):
    """An empty piece of a stream, with any past that is not enough for a frame."""
    none, bias = np.zeros((0, c), np.float32), normal(seed, 2 * n)
    weight = quantize(normal(seed, 2 * n, k * c), scheme, k)
    for stride in (1, 2):
        past = normal(seed, max(0, (k - 1) * dilation + 1 - stride), c)
        for pre in (None, "elu"):
            y = ops.conv(none, ops.pack(weight), bias, stride, dilation, past, pre, np.zeros((0, 2 * n), np.float32))
            assert (y.shape, y.dtype) == ((0, 2 * n), np.float32)
    weight = ops.pack(quantize(normal(seed, 2 * n, c), scheme), act)
    assert ops.linear(none, weight, bias, act).shape == (0, n if act == "glu" else 2 * n)
    past = normal(seed, (k - 1) * dilation, c)
    assert ops.depthwise_conv(none, normal(seed, k, c), None, dilation, past).shape == (0, c)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_numbers_are_not_hidden(scheme: str, bad: float):
    """NaN or infinity in, not a finite number out (or an error)."""
    x = normal(0, 3, 40)
    x[1, 33] = bad
    for act in ACTS[:3]:  # tanh(inf) is 1
        weight = ops.pack(quantize(np.abs(normal(1, 8, 40)), scheme), act)
        try:
            y = ops.linear(x, weight, act=act)
        except FormatError:
            continue
        assert not np.isfinite(y[1]).any()
        assert np.isfinite(y[[0, 2]]).all()


@given(
    c=SIZES, k=st.integers(1, 9), dilation=st.integers(1, 4), frames=SIZES, future=st.integers(0, 20),
    biased=COINS, added=COINS, seed=SEEDS, data=st.data(),
)  # fmt: skip
def test_depthwise(c, k, dilation, frames, future, biased, added, seed, data):
    count = frames + (k - 1) * dilation
    future = min(future, count - 1)
    rows = normal(seed, count - future, c)
    past, x = split(data.draw, rows)
    w, b = normal(seed + 1, k, c), normal(seed + 2, c) if biased else None
    residual = normal(seed + 3, frames, c) if added else None
    padded = F.pad(double(rows).T[None], (0, future))
    shift = None if b is None else double(b)
    expected = F.conv1d(padded, double(w).T[:, None], shift, dilation=dilation, groups=c)[0].T.numpy()
    if residual is not None:
        expected = expected + residual
    y = ops.depthwise_conv(x, w, b, dilation=dilation, past=past, future=future, residual=residual)
    within(y, expected, 1e-6 * (1 + np.abs(expected).max()))


@given(past=st.integers(0, 12), frames=st.integers(0, 15), c=SIZES, seed=SEEDS)
def test_remember(past: int, frames: int, c: int, seed: int):
    rows, x = normal(seed, past, c), normal(seed + 1, frames, c)
    expected = np.concatenate([rows, x])[frames:]
    assert ops.push_history(rows, x) is None
    assert np.array_equal(rows, expected)
    assert np.array_equal(x, normal(seed + 1, frames, c))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(rows=SIZES, d=SIZES, frames=st.integers(0, 9), n=SMALL, added=COINS, seed=SEEDS)
def test_embeddings(scheme: str, rows: int, d: int, frames: int, n: int, added: bool, seed: int):
    table = quantize(normal(seed, rows, d), scheme)
    ids = np.random.default_rng(seed).integers(0, rows, (frames, n + 2))[:, 1:-1]  # a view, like a history's
    weights, residual = normal(seed + 1, n), normal(seed + 2, frames, d) if added else None
    whole = table.dequantize()
    assert np.array_equal(ops.embed(ids[:, 0], table), whole[ids[:, 0]])
    expected = np.einsum("n,tnd->td", weights.astype(np.float64), whole[ids].astype(np.float64))
    expected = expected if residual is None else expected + residual
    limit = 1e-6 * (n + 1) * (1 + np.abs(whole).max()) * (1 + np.abs(weights).max())
    within(ops.embed_sum(ids, table, weights, residual), expected, limit)


# ---------------------------------------------------------------- norms and activations


@given(frames=SIZES, c=SIZES, scale=SCALES, seed=SEEDS)
def test_norms(frames: int, c: int, scale: float, seed: int):
    x, w, b = normal(seed, frames, c, scale=scale), normal(seed + 1, c), normal(seed + 2, c)
    wide = x.astype(np.float64)
    for eps in (1e-6, 1e-3):
        plain = wide / np.sqrt(np.mean(wide**2, axis=1, keepdims=True) + eps)
        for weight in (None, w):
            for shift in (None, b):
                y = plain * (1 if weight is None else weight)
                limit = 2e-6 * (1 + np.abs(y))
                within(ops.rms_norm(x, weight, eps, shift), y + (0 if shift is None else shift), limit)
    for eps in (1e-5, 1e-3):
        y = F.layer_norm(double(x), (c,), double(w), double(b), eps).numpy()
        # The mean is rounded relative to x, and divided by the deviation.
        lost = np.abs(x).max() / np.sqrt(wide.var(axis=1, keepdims=True) + eps)
        within(ops.layer_norm(x, w, b, eps=eps), y, 1e-6 * (1 + lost) * (1 + np.abs(w)) + 1e-6 * np.abs(y))


@given(frames=SIZES, c=SIZES, scale=SCALES, seed=SEEDS, clamp=st.sampled_from([None, 0.5, 10.0]))
def test_match(frames: int, c: int, scale: float, seed: int, clamp: float | None):
    x, a = normal(seed, frames, c, scale=scale), normal(seed + 1, frames, c)
    loud = [np.sqrt(np.mean(y.astype(np.float64) ** 2, 1, keepdims=True) + 1e-6) for y in (x, a)]
    expected = a * np.clip(loud[0] / loud[1], 0, clamp)
    within(ops.match_rms(x, a, clamp), expected, 2e-6 * np.abs(expected))


ELEMENTS = np.concatenate([np.linspace(-12, 12, 4801), [0, 1e-30, -1e-30, 1e-4, 80, -80, 95, -95, 1e4, -1e4]])


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu", "gelu", "glu"])
def test_elementwise(name: str):
    """Each one by itself, or behind a product with ones and zeros."""
    x = ELEMENTS.astype(np.float32)[:, None]
    wide = double(x)
    with np.errstate(over="raise", invalid="raise"):
        if name == "glu":
            wide = torch.cat([double(x[::-1]), wide], 1)
            y = ops.linear(wide.numpy().astype(np.float32), ops.pack(quantize(np.eye(2), "fp32"), name), act=name)
        elif name == "elu":
            y = ops.conv(x, ops.pack(quantize(np.eye(1), "fp32")), pre=name)
        elif name == "tanh":
            y = ops.linear(x, ops.pack(quantize(np.eye(1), "fp32"), name), act=name)
        else:
            y = getattr(ops, name)(x)
    expected = getattr(F, name)(wide).numpy()
    sizes = {"gelu": np.abs(x), "glu": np.abs(x[::-1])}
    within(y, expected, 3e-7 * np.maximum(np.abs(expected), sizes.get(name, 0)) + 1e-7)


def test_gelu_is_the_exact_one():
    """Alone and behind a product; the reference's erf within 4e-7 of the true value, relatively."""
    x = ELEMENTS.astype(np.float32)[:, None]
    expected = np.vectorize(math.erf)(x.astype(np.float64))
    within(activations.erf(x), expected, 4e-7 * np.abs(expected))
    y = 0.5 * x.astype(np.float64) * (1 + np.vectorize(math.erf)(x.astype(np.float64) / math.sqrt(2)))
    behind = ops.linear(x, ops.pack(quantize(np.eye(1), "fp32"), "gelu"), act="gelu")
    for ours in (ops.gelu(x), behind):
        within(ours, y, 1e-6 * np.maximum(np.abs(x), np.abs(y)))
        assert np.abs(ours - F.gelu(double(x), approximate="tanh").numpy()).max() > 1e-4  # the other form would fail


# ---------------------------------------------------------------- attention


@given(frames=SIZES, c=SIZES, scale=SCALES, seed=SEEDS)
def test_softmax(frames: int, c: int, scale: float, seed: int):
    x = normal(seed, frames, c, scale=scale)
    x[:, 1::3] = -np.inf  # never the whole row
    within(ops.softmax(x), double(x).softmax(-1).numpy(), 1e-6)
    within(ops.softmax(x[0]), double(x[0]).softmax(-1).numpy(), 1e-6)


@given(
    t=SIZES, d=SMALL, heads=st.integers(1, 5), seed=SEEDS,
    keys=SIZES, first=st.none() | st.integers(0, 40), hidden=st.integers(0, 3),
)  # fmt: skip
def test_attention(t: int, d: int, heads: int, seed: int, keys: int, first: int | None, hidden: int):
    """Full, or causal with `first` keys before the first row and `hidden` ones that nobody may see."""
    s = keys if first is None else first + t + hidden
    q, k, v = normal(seed, t, heads * d), normal(seed + 1, s, heads * d), normal(seed + 2, s, heads * d)
    split = [double(a).reshape(len(a), heads, d).transpose(0, 1) for a in (q, k, v)]
    visible = None if first is None else torch.arange(s) <= first + torch.arange(t)[:, None]
    expected = F.scaled_dot_product_attention(*split, visible).transpose(0, 1).flatten(1).numpy()
    within(ops.attention(q, k, v, heads, first), expected, 3e-6 * np.abs(v).max())


@given(t=SIZES, half=SMALL, heads=st.integers(1, 5), first=st.integers(0, 500), seed=SEEDS)
def test_rope(t: int, half: int, heads: int, first: int, seed: int):
    """Half-split form: pair i of a head is (i, i + d/2), turned by the position times its frequency."""
    x = normal(seed, t, heads * 2 * half)
    angle = np.arange(first, first + t)[:, None] * 10000.0 ** (-np.arange(half) / half)
    parts = torch.from_numpy(x.astype(np.float64)).reshape(t, heads, 2, half)
    turned = torch.complex(parts[:, :, 0], parts[:, :, 1]) * torch.polar(
        torch.ones(t, 1, half, dtype=torch.float64), torch.from_numpy(angle)[:, None]
    )
    expected = torch.stack([turned.real, turned.imag], dim=2).reshape(x.shape).numpy()
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    within(ops.rope(x, cos, sin, heads), expected, 1e-6 * (1 + np.abs(x).max()))


@given(t=SIZES, c=SIZES, v=SIZES, seed=SEEDS)
def test_nearest(t: int, c: int, v: int, seed: int):
    """The closest row, wherever the second closest is not as close."""
    x, table = normal(seed, t, c), normal(seed + 1, v, c)
    distance = torch.cdist(double(x), double(table), compute_mode="donot_use_mm_for_euclid_dist").numpy()
    chosen = ops.nearest_row(x, table)
    assert chosen.shape == (t,)
    assert (distance[np.arange(t), chosen] <= distance.min(axis=1) + 1e-4).all()


# ---------------------------------------------------------------- repetition


@given(
    frames=st.integers(1, 3), d=st.integers(1, 40), n=SMALL, past=st.integers(0, 8), scheme=st.sampled_from(SCHEMES),
    attends=COINS, steps=st.integers(1, 6), seed=SEEDS,
)  # fmt: skip
def test_replay(frames, d, n, past, scheme, attends, steps, seed):
    """Again and again with other numbers: what a direct call gives, the memory it changes in place included."""

    def weight(number: int, outputs: int, inputs: int, act: str | None = None) -> QTensor:
        return ops.pack(quantize(normal(seed + number, outputs, inputs, scale=inputs**-0.5), scheme), act)

    table, history = quantize(normal(seed, 20, d), scheme), normal(seed + 1, n)
    gate, inner, out, head = (
        weight(2, 2 * d, d, "glu"),
        weight(3, 3 * d, d, "gelu"),
        weight(4, d, 3 * d),
        weight(5, 7, d),
    )
    kernel, gain, bias = normal(seed + 6, past + 1, d), normal(seed + 7, d), normal(seed + 8, 2 * d)
    keys, values = normal(seed + 9, 2, 5, d)

    def step_with(tail: np.ndarray):
        def step(x: np.ndarray, ids: np.ndarray) -> np.ndarray:
            x = ops.embed_sum(ids, table, history, residual=x)
            h = ops.linear(ops.rms_norm(x, gain), gate, bias, act="glu")
            x = ops.depthwise_conv(h, kernel, gain, past=tail, residual=x)
            ops.push_history(tail, h)
            if attends:
                x = ops.linear(ops.attention(x, keys, values, 1), gate, act="glu", scale=np.float32(0.3), residual=x)
            x = ops.linear(ops.linear(x, inner, act="gelu"), out, scale=gain, residual=x)
            return ops.linear(ops.rms_norm(x, gain), head)

        return step

    tails = np.zeros((2, past, d), np.float32)
    direct, owner = step_with(tails[1]), (table, history, gate, inner, out, head, kernel, gain, bias, keys, values)
    ids = np.random.default_rng(seed).integers(0, 20, (steps, frames, n))
    inputs = [normal(seed + 10 + i, frames, d) for i in range(steps)]
    with capturing(Graphs()):  # all results are kept: none may be overwritten
        results = [
            ops.replay(owner, "step", step_with(tails[0]), case, ops.Arrays([tails[0]])) for case in zip(inputs, ids)
        ]
    for x, rows, result in zip(inputs, ids, results, strict=True):
        assert np.array_equal(result, direct(x, rows))
    assert np.array_equal(*tails)
