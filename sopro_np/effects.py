"""What may be done to finished speech: gain, loudness by ITU-R BS.1770, another speed or sample rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sopro_np.errors import AudioError, ModelError

BLOCK_SECONDS, STEP_SECONDS = 0.4, 0.1  # of BS.1770's gating
SILENCE_LUFS, RELATIVE_LU = -70.0, -10.0
TAIL_SECONDS = 1.0  # of the filters: the lowest corner is 38 Hz, so that nothing is left long before


def amplified(chunks: Iterator[np.ndarray], decibels: float) -> Iterator[np.ndarray]:
    """Samples (n,) times 10 ** (decibels / 20); what leaves [-1, 1] is cut by whoever writes it."""
    factor = np.float32(10 ** (decibels / 20))
    for chunk in chunks:
        yield chunk * factor


def resampled(chunks: Iterator[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Samples at `rate` Hz -> at `new_rate` Hz, the same however they are cut (soxr, its quality HQ).

    n samples become round(n * new_rate / rate); the filter holds some of them back until the end.
    """
    if rate == new_rate:
        yield from chunks
        return
    import soxr  # here and not above: speech at the model's own rate needs none

    stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality="HQ")
    for chunk in chunks:
        if len(out := stream.resample_chunk(np.ascontiguousarray(chunk))):
            yield out
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def at_speed(wav: np.ndarray, rate: int, speed: float) -> np.ndarray:
    """(n,) at `rate` Hz -> (round(n / speed),): faster or slower at the same pitch (Signalsmith Stretch, spectral).

    It takes the whole signal at once: the package has no call for a stream. ModelError if it is not installed.
    """
    try:
        from python_stretch.Signalsmith import Stretch
    except ImportError:
        message = "another speed needs python-stretch, which is not installed: pip install python-stretch"
        raise ModelError(message) from None
    stretch: Any = Stretch()
    stretch.preset(1, rate)
    stretch.timeFactor = speed
    size = round(len(wav) / speed)
    room = np.zeros((1, max(len(wav), stretch.blockSamples())), np.float32)
    room[0, : len(wav)] = wav
    out: np.ndarray = np.concatenate([stretch.process(room)[0], np.zeros(1, np.float32)])  # it may round down
    return np.clip(out[:size], -1, 1)


def to_loudness(wav: np.ndarray, rate: int, lufs: float) -> tuple[np.ndarray, float]:
    """(n,) at `rate` Hz -> the same at that integrated loudness, and the loudness reached.

    That is less than asked for where a sample would leave [-1, 1]: nothing is cut or compressed.
    AudioError if there is no loudness: everything is silent, or shorter than 0.4 s.
    """
    now = loudness(wav, rate)
    if now == -np.inf:
        raise AudioError("the speech is silent or shorter than 0.4 s: it has no loudness to be normalised")
    most = -20 * np.log10(float(np.abs(wav).max()))
    gain = min(lufs - now, most)
    return (wav * 10 ** (gain / 20)).astype(np.float32), now + gain


def loudness(wav: np.ndarray, rate: int) -> float:
    """Integrated loudness in LUFS of mono samples (n,), -inf if nothing passes the gates (ITU-R BS.1770-4).

    K-weighting, mean power of blocks of 0.4 s every 0.1 s; of those above -70 LUFS the ones within 10 LU of their mean.
    """
    power = np.cumsum(np.concatenate([[0.0], k_weighted(wav, rate) ** 2]))
    block, step = round(BLOCK_SECONDS * rate), round(STEP_SECONDS * rate)
    starts = np.arange(0, len(wav) - block + 1, step)
    blocks = (power[starts + block] - power[starts]) / block
    heard = blocks[_lufs(blocks) > SILENCE_LUFS]
    if not len(heard):
        return -np.inf
    kept = heard[_lufs(heard) > _lufs(heard.mean()) + RELATIVE_LU]
    return float(_lufs(kept.mean()))


def _lufs(power: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return -0.691 + 10 * np.log10(np.maximum(power, 0))


def k_weighted(wav: np.ndarray, rate: int) -> np.ndarray:
    """(n,) -> (n,) float64 through both filters of BS.1770, applied in the frequency domain."""
    size = 1 << (len(wav) + round(TAIL_SECONDS * rate) - 1).bit_length()
    z = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # one sample's delay
    spectrum = np.fft.rfft(wav.astype(np.float64), size)
    for b, a in k_filters(rate):
        spectrum *= np.polyval(b[::-1], z) / np.polyval(a[::-1], z)
    return np.fft.irfft(spectrum, size)[: len(wav)]


def k_filters(rate: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(b, a) of the high shelf and of the high pass, each (3,), for any rate in Hz.

    The standard gives coefficients for 48 kHz alone; these are the analogue filters behind them, by the bilinear
    transform (their parameters follow from its tables; at 48 kHz the result is the table).
    """
    k = np.tan(np.pi * 1681.974450955533 / rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    shelf_b = np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k])
    shelf_a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    pass_a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    return (shelf_b / shelf_a[0], shelf_a / shelf_a[0]), (np.array([1.0, -2.0, 1.0]), pass_a / pass_a[0])
