"""Every operation of the table, in every implementation, against torch or NumPy in float64 (or int64)."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from conftest import assert_close, normal, within
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from sopro_np import ops  # noqa: E402
from sopro_np.errors import FormatError, OpsError  # noqa: E402
from sopro_np.ops.quant import SCHEMES, from_bf16, quantize, quantize_rows, to_bf16, unpack_int4  # noqa: E402

SMALL = st.integers(1, 9)
SIZES = st.one_of(SMALL, st.integers(10, 70))
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-4, 0.1, 1.0, 30.0, 1e4])


@pytest.fixture(scope="module", params=sorted(ops.TABLES), autouse=True)
def implementation(request: pytest.FixtureRequest):
    before = ops.current()
    ops.use(request.param)
    yield request.param
    ops.use(before)


def double(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float64))


# ---------------------------------------------------------------- the table


def test_every_implementation_has_every_operation(implementation: str):
    table = ops.TABLES[implementation]
    assert set(table) == set(ops.NAMES)
    for name in ops.NAMES:
        reference = inspect.signature(ops.TABLES["numpy"][name]).parameters.values()
        own = inspect.signature(table[name]).parameters.values()
        assert [(p.name, p.default) for p in own] == [(p.name, p.default) for p in reference], name
        assert getattr(ops, name) is table[name]


def test_unknown_implementations_and_operations_are_refused():
    with pytest.raises(OpsError, match="cuda"):
        ops.use("cuda")
    with pytest.raises(AttributeError, match="fft"):
        _ = ops.fft


# ---------------------------------------------------------------- products


@st.composite
def products(draw, most_taps: int = 5):
    """x (P, C), w (N, K*C), bias or None, K, stride, dilation, output frames."""
    c, n, k = draw(SIZES), draw(SMALL), draw(st.integers(1, most_taps))
    stride, dilation, frames = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(SIZES)
    spare = draw(st.integers(0, stride - 1))  # rows behind the last whole step
    rows = (k - 1) * dilation + (frames - 1) * stride + 1 + spare
    seed = draw(SEEDS)
    x = normal(seed, rows, c, scale=draw(SCALES)) * np.exp(normal(seed + 1, rows, 1))
    w = normal(seed + 2, n, k * c) * np.exp(normal(seed + 3, n, 1))
    bias = normal(seed + 4, n) if draw(st.booleans()) else None
    return x, w, bias, k, stride, dilation, frames


def taps_of(x: np.ndarray, k: int, stride: int, dilation: int, frames: int) -> list[np.ndarray]:
    """The rows that meet tap 0, 1, ... -> K arrays (frames, C)."""
    return [x[i * dilation :][::stride][:frames] for i in range(k)]


def wide_product(x, w, k, stride, dilation, frames) -> np.ndarray:
    """The same convolution by torch in float64, (frames, N)."""
    kernel = double(w).reshape(len(w), k, -1).permute(0, 2, 1)
    y = F.conv1d(double(x).T[None], kernel, stride=stride, dilation=dilation)[0].T
    assert len(y) == frames
    return y.numpy()


@pytest.mark.parametrize("scheme", ["fp32", "fp16", "bf16"])
@given(products())
def test_float_products(scheme: str, case):
    x, w, bias, k, *steps, frames = case
    weight = quantize(w, scheme, k)
    rest = (k, *steps, frames)
    expected = wide_product(x, weight.dequantize(), *rest)
    size = wide_product(np.abs(x), np.abs(weight.dequantize()), *rest)
    shift = 0 if bias is None else bias
    y = ops.conv(x, ops.pack(weight), bias, *steps)
    within(y, expected + shift, 1e-6 * (size + np.abs(shift)))
    if k == 1 and steps[0] == 1:
        assert_close("linear", ops.linear(x, ops.pack(weight), bias), y, 1e-6)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
@given(products())
def test_integer_products(scheme: str, case):
    """Against int64 dot products of the stored integers; and near the product that was meant."""
    x, w, bias, k, stride, dilation, frames = case
    n, c = len(w), x.shape[1]
    weight = quantize(w, scheme, k)
    q, scale = quantize_rows(x)
    if scheme == "int8":
        integers, per_weight = (
            weight.data.reshape(n, k, c),
            np.repeat(weight.scale, k * c, 1).reshape(n, k, c),
        )
    else:
        integers = unpack_int4(weight.data.reshape(n, k, -1), c)
        per_weight = np.repeat(weight.scale.reshape(n, k, -1), 32, axis=2)[:, :, :c]
    expected, size, slack = np.zeros((3, frames, n))
    for i, (q_i, s_i) in enumerate(
        zip(taps_of(q, k, stride, dilation, frames), taps_of(scale, k, stride, dilation, frames))
    ):
        for g in range(0, c, 32):
            group = slice(g, g + 32)
            dots = q_i[:, group].astype(np.int64) @ integers[:, i, group].astype(np.int64).T
            part = dots * s_i[:, None].astype(np.float64) * per_weight[:, i, g]
            expected, size = expected + part, size + np.abs(part)
            # |x w - qx sx qw sw| <= |qx sx| sw/2 + |w| sx/2 for every pair
            xs = np.abs(q_i[:, group]).sum(axis=1, dtype=np.int64)[:, None] * s_i[:, None].astype(np.float64)
            ws = np.abs(w.reshape(n, k, c)[:, i, group]).sum(axis=1, dtype=np.float64)
            slack += xs * per_weight[:, i, g] / 2 + s_i[:, None] * ws / 2
    shift = np.zeros(n, np.float32) if bias is None else bias
    y = ops.conv(x, ops.pack(weight), bias, stride, dilation)
    within(y, expected + shift, 1e-6 * (size + np.abs(shift)) + 1e-30)
    meant = wide_product(x, w, k, stride, dilation, frames) + shift
    within(y, meant, 1.001 * slack + 1e-5 * (size + np.abs(meant)))


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
@given(products(most_taps=1))
def test_a_row_knows_nothing_of_its_neighbours(scheme: str, case):
    x, w, bias, *_ = case
    weight = ops.pack(quantize(w, scheme))
    whole = ops.linear(x, weight, bias)
    alone = np.concatenate([ops.linear(x[t : t + 1], weight, bias) for t in range(len(x))])
    if scheme.startswith("int"):
        assert np.array_equal(whole, alone)
    else:
        within(alone, whole, 1e-6 * (np.abs(x) @ np.abs(w).T + 1))


@given(c=SIZES, k=st.integers(1, 9), dilation=st.integers(1, 4), frames=SIZES, bias=st.booleans(), seed=SEEDS)
def test_depthwise(c: int, k: int, dilation: int, frames: int, bias: bool, seed: int):
    x, w = normal(seed, frames + (k - 1) * dilation, c), normal(seed + 1, c, k)
    b = normal(seed + 2, c) if bias else None
    kernel, shift = double(w)[:, None], None if b is None else double(b)
    expected = F.conv1d(double(x).T[None], kernel, shift, dilation=dilation, groups=c)[0].T.numpy()
    within(ops.depthwise_conv(x, w, b, dilation=dilation), expected, 1e-6 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(rows=SIZES, d=SIZES, frames=SMALL, n=SMALL, seed=SEEDS)
def test_embeddings(scheme: str, rows: int, d: int, frames: int, n: int, seed: int):
    table = quantize(normal(seed, rows, d), scheme)
    ids = np.random.default_rng(seed).integers(0, rows, (frames, n))
    weights = normal(seed + 1, n)
    whole = table.dequantize()
    assert np.array_equal(ops.embed(ids[:, 0], table), whole[ids[:, 0]])
    expected = np.einsum("n,tnd->td", weights.astype(np.float64), whole[ids].astype(np.float64))
    within(ops.embed_sum(ids, table, weights), expected, 1e-6 * n * (1 + np.abs(whole).max()))


# ---------------------------------------------------------------- norms and activations


@given(frames=SIZES, c=SIZES, scale=SCALES, seed=SEEDS)
def test_norms(frames: int, c: int, scale: float, seed: int):
    x, w, b = normal(seed, frames, c, scale=scale), normal(seed + 1, c), normal(seed + 2, c)
    mean_square = np.mean(x.astype(np.float64) ** 2, axis=1, keepdims=True)
    plain = x / np.sqrt(mean_square + 1e-6)
    within(ops.rms_norm(x, w), plain * w, 2e-6 * (1 + np.abs(plain * w)))
    within(ops.rms_norm(x), plain, 2e-6 * (1 + np.abs(plain)))
    a = normal(seed + 3, frames, c)
    ratio = np.sqrt(mean_square + 1e-6) / np.sqrt(np.mean(a.astype(np.float64) ** 2, 1, keepdims=True) + 1e-6)
    within(ops.rms_ratio(x, a), ratio, 2e-6 * ratio)
    within(ops.rms_ratio(x, a, 10.0), np.clip(ratio, 0, 10), 2e-6 * ratio)
    for eps in (1e-5, 1e-3):
        y = F.layer_norm(double(x), (c,), double(w), double(b), eps).numpy()
        # The mean is rounded relative to x, and divided by the deviation.
        lost = np.abs(x).max() / np.sqrt(x.astype(np.float64).var(axis=1, keepdims=True) + eps)
        within(ops.layer_norm(x, w, b, eps=eps), y, 1e-6 * (1 + lost) * (1 + np.abs(w)) + 1e-6 * np.abs(y))


ELEMENTS = np.concatenate([np.linspace(-12, 12, 4801), [0, 1e-30, -1e-30, 1e-4, 80, -80, 95, -95, 1e4, -1e4]])


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu"])
def test_elementwise(name: str):
    x = ELEMENTS.astype(np.float32)[:, None]
    with np.errstate(over="raise", invalid="raise"):
        y = getattr(ops, name)(x)
    expected = getattr(torch.nn.functional, name)(double(x)).numpy()
    within(y, expected, 3e-7 * np.abs(expected) + (0 if name == "tanh" else 1e-7))


def test_erf_and_gelu():
    """erf within 4e-7 of the true value, relatively; gelu is built on it."""
    x = ELEMENTS.astype(np.float32)[:, None]
    expected = np.vectorize(math.erf)(x.astype(np.float64))
    within(ops.erf(x), expected, 4e-7 * np.abs(expected))
    y = 0.5 * x.astype(np.float64) * (1 + np.vectorize(math.erf)(x.astype(np.float64) / math.sqrt(2)))
    within(ops.gelu(x), y, 4e-7 * np.maximum(np.abs(x), np.abs(y)))
    assert np.abs(y - F.gelu(double(x), approximate="tanh").numpy()).max() > 1e-4  # the other form would fail


@given(frames=SIZES, c=SIZES, scale=SCALES, seed=SEEDS)
def test_glu(frames: int, c: int, scale: float, seed: int):
    x = normal(seed, frames, 2 * c, scale=scale)
    within(ops.glu(x), F.glu(double(x)).numpy(), 5e-7 * (1e-3 + np.abs(x[:, :c])))


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
    chosen = ops.nearest(x, table)
    assert chosen.shape == (t,)
    assert (distance[np.arange(t), chosen] <= distance.min(axis=1) + 1e-4).all()


# ---------------------------------------------------------------- number formats


@given(n=SMALL, c=SIZES, k=st.integers(1, 4), scale=SCALES, seed=SEEDS)
def test_round_trip(n: int, c: int, k: int, scale: float, seed: int):
    """Back within half a step (and a rounding); the largest of each group keeps its size; zeros stay."""
    w = normal(seed, n, k * c, scale=scale)
    w[:, ::5] = 0
    for scheme, top, group in (("int8", 127, k * c), ("int4", 7, 32)):
        t = quantize(w, scheme, k)
        back = t.dequantize()
        assert (t.shape, t.inputs, back.dtype) == (w.shape, c, np.float32)
        for row, result in zip(w, back, strict=True):
            taps = [row] if scheme == "int8" else row.reshape(k, c)
            for a, b in zip(taps, result.reshape(len(taps), -1), strict=True):
                for start in range(0, len(a), group):
                    part, step = slice(start, start + group), np.abs(a[start : start + group]).max() / top
                    assert (np.abs(b[part] - a[part]) <= step * 0.50001).all()
                    assert np.isclose(np.abs(b[part]).max(), step * top, rtol=1e-6, atol=0)
        assert not back[:, ::5].any()
        assert np.array_equal(t.rows(np.array([n - 1, 0])), back[[n - 1, 0]])


def test_int4_layout():
    """Eight weights to a word, the first lowest, stored as q + 8; groups and words start anew at each tap."""
    taps = np.array([[-7, 1, 2, 3, 4, 5, 6, 7, -1], [7, 0, 0, 0, 0, 0, 0, 0, -7]], np.float32)
    t = quantize(taps.reshape(1, 18) * np.repeat([[1, 0.5]], 9, axis=1).astype(np.float32), "int4", taps=2)
    words = [[0xFEDCBA91, 0x88888887], [0x8888888F, 0x88888881]]
    assert np.array_equal(t.data.view(np.uint32), np.reshape(words, (1, 4)))
    assert np.array_equal(t.scale, np.array([[1, 0.5]], np.float32))
    assert quantize(np.ones((3, 2 * 33), np.float32), "int4", taps=2).scale.shape == (3, 2 * 2)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=50))
def test_sixteen_bit_floats_round_like_torch(upper: list[int]):
    """Ties and their neighbours above and below, of any 16 upper bits."""
    lower = np.array([0, 1, 0x0FFF, 0x1000, 0x1001, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    values = (np.array(upper, np.uint32)[:, None] << 16 | lower).ravel().view(np.float32)
    values = values[np.isfinite(values)][None]
    rounded = torch.from_numpy(values).bfloat16()
    assert np.array_equal(to_bf16(values), rounded.view(torch.uint16).numpy())
    assert np.array_equal(from_bf16(to_bf16(values)), rounded.float().numpy())
    small = values[np.abs(values) <= 65504][None]
    assert np.array_equal(quantize(small, "fp16").dequantize(), torch.from_numpy(small).half().float().numpy())


@given(frames=SIZES, c=SIZES, scale=SCALES, seed=SEEDS, cut=st.integers(0, 80))
def test_activation_rows(frames: int, c: int, scale: float, seed: int, cut: int):
    """Within half a step of each row's own scale, the same bits however the rows are cut."""
    x = normal(seed, frames, c, scale=scale) * np.exp(3 * normal(seed + 1, frames, 1))
    x[::4] = 0
    q, step = quantize_rows(x)
    assert (q.dtype, step.dtype) == (np.int8, np.float32)
    assert np.allclose(step * 127, np.maximum(np.abs(x).max(axis=1), 1e-12), rtol=1e-6, atol=0)
    assert (np.abs(q * step[:, None].astype(np.float64) - x) <= step[:, None] * 0.50001).all()
    assert not q[::4].any()
    pieces = [quantize_rows(part) for part in (x[:cut], x[cut:]) if len(part)]
    assert np.array_equal(np.concatenate([p[0] for p in pieces]), q)
    assert np.array_equal(np.concatenate([p[1] for p in pieces]), step)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_numbers_are_refused(bad: float):
    x = np.ones((3, 40), np.float32)
    x[1, 33] = bad
    with pytest.raises(FormatError):
        quantize_rows(x)
    for scheme in SCHEMES:
        with pytest.raises(FormatError):
            quantize(x, scheme)
    with pytest.raises(FormatError, match="fp16"):
        quantize(np.full((1, 1), 70000, np.float32), "fp16")
