"""Gain, loudness, sample rate: against the standard's own numbers, SciPy's filters, and however speech is cut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from sopro_np.effects import amplified, at_speed, k_filters, k_weighted, loudness, resampled, to_loudness
from sopro_np.errors import AudioError

RATES = (8000, 16000, 22050, 24000, 44100, 48000)


def noise(n: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * scale).astype(np.float32)


def pieces(wav: np.ndarray, cuts: list[int]) -> Iterator[np.ndarray]:
    return iter(np.split(wav, sorted(c % (len(wav) + 1) for c in cuts)))


@given(st.lists(st.integers(0, 5000), max_size=9), st.sampled_from(RATES), st.integers(1, 5000))
def test_another_rate_is_the_same_however_it_is_cut(cuts: list[int], rate: int, n: int) -> None:
    wav = noise(n)
    out = np.concatenate(list(resampled(pieces(wav, cuts), 24000, rate)))
    expected = wav if rate == 24000 else soxr.resample(wav, 24000, rate, quality="HQ")
    assert out.dtype == np.float32
    assert np.array_equal(out, expected)


@given(st.lists(st.integers(0, 500), max_size=5), st.floats(-60, 20))
def test_gain(cuts: list[int], decibels: float) -> None:
    wav = noise(500)
    out = np.concatenate(list(amplified(pieces(wav, cuts), decibels)))
    assert np.allclose(20 * np.log10(np.abs(out / wav)), decibels, atol=1e-3)


def test_filters_are_the_standard_s_at_48_khz() -> None:
    """BS.1770-4, tables 1 and 2."""
    (b1, a1), (b2, a2) = k_filters(48000)
    assert np.allclose(b1, [1.53512485958697, -2.69169618940638, 1.19839281085285], atol=1e-12)
    assert np.allclose(a1, [1, -1.69065929318241, 0.73248077421585], atol=1e-12)
    assert np.allclose(b2, [1, -2, 1], atol=1e-12)
    assert np.allclose(a2, [1, -1.99004745483398, 0.99007225036621], atol=1e-12)


@pytest.mark.parametrize("rate", RATES)
def test_weighting_is_the_recursive_filter(rate: int) -> None:
    wav = noise(rate * 2).astype(np.float64)
    expected = wav
    for b, a in k_filters(rate):
        expected = lfilter(b, a, expected)
    assert np.abs(k_weighted(wav, rate) - expected).max() < 1e-6


@pytest.mark.parametrize("rate", [24000, 48000])
def test_loudness_of_the_standard_s_sine(rate: int) -> None:
    """A 997 Hz sine of full scale in one channel is -3.01 LUFS; 20 dB less is 20 LU less."""
    sine = np.sin(2 * np.pi * 997 * np.arange(3 * rate) / rate)
    assert loudness(sine, rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness(sine * 0.1, rate) == pytest.approx(-23.01, abs=0.05)
    pauses = np.concatenate([sine, np.zeros(10 * rate), sine * 1e-3])
    assert loudness(pauses, rate) == pytest.approx(-3.01, abs=0.25), "silence does not count"


@given(st.floats(-60, -5), st.integers(12000, 60000), st.floats(1e-3, 1))
def test_normalised_is_as_loud_as_asked_or_as_loud_as_can_be(lufs: float, n: int, scale: float) -> None:
    wav = noise(n, scale=scale)
    out, reached = to_loudness(wav, 24000, lufs)
    assert loudness(out, 24000) == pytest.approx(reached, abs=0.01)
    peak = np.abs(out).max()
    assert peak <= 1 + 1e-6
    assert reached == pytest.approx(lufs, abs=0.01) or (reached < lufs and peak == pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("wav", [np.zeros(24000, np.float32), noise(9000), np.zeros(0, np.float32)])
def test_what_has_no_loudness(wav: np.ndarray) -> None:
    assert loudness(wav, 24000) == -np.inf
    with pytest.raises(AudioError, match="silent"):
        to_loudness(wav, 24000, -16)


# --- speed ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 9000), st.floats(0.5, 2))
def test_another_speed_has_that_length(size: int, speed: float) -> None:
    pytest.importorskip("python_stretch")  # in the extra `test`
    wav = np.sin(np.arange(size) * 0.05).astype(np.float32)
    out = at_speed(wav, 24000, speed)
    assert out.shape == (round(size / speed),) and out.dtype == np.float32
    assert np.isfinite(out).all() and np.abs(out).max(initial=0) <= 1


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_another_speed_keeps_the_pitch(speed: float) -> None:
    pytest.importorskip("python_stretch")
    wav = np.sin(np.arange(48000) * 2 * np.pi * 200 / 24000).astype(np.float32) / 2
    out = at_speed(wav, 24000, speed)
    peak = np.abs(np.fft.rfft(out * np.hanning(len(out)))).argmax() * 24000 / len(out)
    assert peak == pytest.approx(200, abs=1) and out.std() == pytest.approx(wav.std(), rel=0.05)
