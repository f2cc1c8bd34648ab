"""The number formats of weights and activations: layouts, rounding, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import normal
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from sopro_np.errors import FormatError  # noqa: E402
from sopro_np.ops.quant import FORMATS, from_bf16, quantize, quantize_rows, split_rows, to_bf16  # noqa: E402

SMALL = st.integers(1, 9)
SIZES = st.one_of(SMALL, st.integers(10, 70))
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-4, 0.1, 1.0, 30.0, 1e4])


@given(n=SMALL, c=SIZES, k=st.integers(1, 4), scale=SCALES, seed=SEEDS)
def test_round_trip(n: int, c: int, k: int, scale: float, seed: int):
    """Back within half a step (and a rounding); the largest of each group keeps its size; zeros stay."""
    w = normal(seed, n, k * c, scale=scale)
    w[:, ::5] = 0
    for scheme, top, group in (("int8", 127, k * c), ("int4", 7, 32)):
        half = 2**-11 if scheme == "int4" else 1e-6  # an int4 scale is a float16, subnormal below 6e-5
        t = quantize(w, scheme, k)
        back = t.dequantize()
        assert (t.shape, t.inputs, back.dtype) == (w.shape, c, np.float32)
        for row, result in zip(w, back, strict=True):
            taps = [row] if scheme == "int8" else row.reshape(k, c)
            for a, b in zip(taps, result.reshape(len(taps), -1), strict=True):
                for start in range(0, len(a), group):
                    part, step = slice(start, start + group), np.abs(a[start : start + group]).max() / top
                    lost = top * (half * step + (2**-25 if scheme == "int4" else 0))
                    assert (np.abs(b[part] - a[part]) <= step * 0.50001 + lost).all()
                    assert np.isclose(np.abs(b[part]).max(), step * top, rtol=1e-6, atol=lost)
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
    for scheme in FORMATS:
        with pytest.raises(FormatError):
            quantize(x, scheme)
    with pytest.raises(FormatError, match="fp16"):
        quantize(np.full((1, 1), 70000, np.float32), "fp16")


@given(rows=SMALL, c=SIZES, scale=SCALES, seed=SEEDS)
def test_sixteen_bits_are_two_times_eight(rows: int, c: int, scale: float, seed: int):
    """Both halves are bytes, and together they are nearer than half a step of 65279."""
    x = normal(seed, rows, c, scale=scale)
    high, low, step = split_rows(x)
    assert max(-high.min(), high.max(), low.max()) <= 127 and low.min() >= -128
    assert (np.abs((256 * high.astype(np.float32) + low) * step[:, None] - x) <= 0.51 * step[:, None]).all()


def test_groups_that_do_not_divide():
    with pytest.raises(FormatError, match="160 inputs do not divide into groups of 64: choose int4"):
        quantize(np.ones((2, 160), np.float32), "int4-64")
    for size, words in ((1e-9, "too small"), (1e7, "exceeds the range")):
        with pytest.raises(FormatError, match=words + " .*choose int8"):
            quantize(np.full((2, 64), size, np.float32), "int4")
