"""Values of pyworld and pysptk for a constructed signal: what tests/test_evaluate_measures.py compares with.

python tests/world_fixture.py        # needs pyworld 0.3.5, pysptk 1.0.1, setuptools < 81; writes data/world.safetensors
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

RATE = 24000
ORDER, ALPHA = 24, 0.466
FILE = Path(__file__).parent / "data" / "world.safetensors"


def glide(seconds: float = 1.0, low: float = 110.0, high: float = 220.0) -> tuple[np.ndarray, np.ndarray]:
    """A voice-like sound: silence, then a pulse train that rises an octave evenly in cents, then silence.

    Harmonics with amplitudes of a one-pole glottis and two resonances -> wav (n,), and its true F0 every 5 ms (0 in
    the silence, which is a tenth of the length at either end).
    """
    n = round(seconds * RATE)
    t = np.arange(n) / RATE
    f0 = low * (high / low) ** (t / seconds)
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wav = np.zeros(n)
    for k in range(1, int(RATE / 2 / high)):
        f = k * f0
        gain = 1 / k + 1 / k * sum(4 / (1 + ((f - centre) / width) ** 2) for centre, width in ((700, 90), (1900, 160)))
        wav += gain * np.sin(k * phase)
    edge = n // 10
    voiced = np.zeros(n, bool)
    voiced[edge : n - edge] = True
    fade = np.convolve(voiced, np.hanning(241) / np.hanning(241).sum(), "same")
    wav = 0.3 * fade * wav / np.abs(wav).max() + 1e-5 * np.random.default_rng(0).standard_normal(n)
    step = round(0.005 * RATE)
    return wav, np.where(voiced, f0, 0)[::step]


def main() -> None:
    import pysptk
    import pyworld

    wav, _ = glide()
    f0, times = pyworld.harvest(wav, RATE, f0_floor=60.0, f0_ceil=600.0, frame_period=5.0)
    f0 = pyworld.stonemask(wav, f0, times, RATE)
    power = pyworld.cheaptrick(wav, f0, times, RATE, fft_size=1024)[40:160:8]
    mc = pysptk.sp2mc(power, ORDER, ALPHA)
    alphas = np.array([[rate, pysptk.util.mcepalpha(rate)] for rate in (8000, 11025, 16000, 22050, 44100, 48000)])
    cepstrum = np.random.default_rng(1).standard_normal(40) / np.arange(1, 41)
    bent = pysptk.freqt(cepstrum, ORDER, ALPHA)
    tensors = {"f0": f0, "power": power, "mc": mc, "alphas": alphas, "cepstrum": cepstrum, "bent": bent}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, FILE)


if __name__ == "__main__":
    main()
