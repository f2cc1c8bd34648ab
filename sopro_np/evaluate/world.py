"""A waveform -> what MCD and F0 measures look at, by WORLD (pyworld; Morise et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np.evaluate import cepstra, pitch
from sopro_np.evaluate.cepstra import Definition, definition
from sopro_np.evaluate.dtw import align
from sopro_np.evaluate.libraries import library

F0_FLOOR, F0_CEILING = 60.0, 600.0  # Hz
QUIET_DB = -40.0  # below the loudest frame: silence around an utterance, cut off before DTW
PITCH_DEFINITION = (
    f"F0: WORLD harvest {F0_FLOOR:g}-{F0_CEILING:g} Hz + stonemask, every 5 ms; RMSE and log-F0 correlation over "
    "frames voiced in both, V/UV error: percent of frames whose voicing differs"
)
ALIGNMENT = f"aligned by DTW on c_1.., silence at the ends (below {QUIET_DB:g} dB) cut off"


@dataclass(frozen=True)
class Analysis:
    """f0 (T,) in Hz, 0 = unvoiced; cepstra (T, D + 1); both every `definition.shift_ms`."""

    f0: np.ndarray
    cepstra: np.ndarray
    definition: Definition

    def trimmed(self) -> Analysis:
        """Without silence at the ends."""
        if not len(self.f0):
            return self
        level = self.cepstra[:, 0] * 20 / np.log(10)  # c_0 is the log magnitude of the envelope
        loud = np.flatnonzero(level > level.max() + QUIET_DB)
        part = slice(loud[0], loud[-1] + 1)
        return Analysis(self.f0[part], self.cepstra[part], self.definition)


def pitch_track(wav: np.ndarray, rate: int) -> np.ndarray:
    """wav (n,) -> F0 (T,) in Hz, 0 = unvoiced, every 5 ms."""
    world, x = library("pyworld", "F0"), np.ascontiguousarray(wav, np.float64)
    shift = definition(rate).shift_ms
    if not len(x):
        return np.zeros(0)
    f0, times = world.harvest(x, rate, f0_floor=F0_FLOOR, f0_ceil=F0_CEILING, frame_period=shift)
    return world.stonemask(x, f0, times, rate)


def analyse(wav: np.ndarray, rate: int, f0: np.ndarray | None = None) -> Analysis:
    """wav (n,) -> Analysis. `f0`: take this track instead of looking for one (of a waveform in step with this)."""
    world, x, d = library("pyworld", "MCD"), np.ascontiguousarray(wav, np.float64), definition(rate)
    f0 = pitch_track(wav, rate) if f0 is None else f0
    if not len(x):
        return Analysis(f0, np.zeros((0, d.order + 1)), d)
    times = np.arange(len(f0)) * d.shift_ms / 1000
    power = world.cheaptrick(x, f0, times, rate, fft_size=d.fft)
    return Analysis(f0, cepstra.mel_cepstra(power, d.order, d.alpha), d)


def compare_in_step(reference: Analysis, actual: np.ndarray, rate: int) -> float:
    """MCD in dB of a waveform (n,) in step with the analysed one: same F0 track, every frame counts."""
    return cepstra.mcd(reference.cepstra, analyse(actual, rate, reference.f0).cepstra)


def compare_aligned(reference: Analysis, actual: Analysis) -> dict[str, float]:
    """Two readings of one text: mcd in dB and the measures of pitch.py, along a DTW path."""
    r, a = reference.trimmed(), actual.trimmed()
    if not len(r.f0) or not len(a.f0):
        return dict.fromkeys(("mcd", *pitch.compare(np.zeros(0), np.zeros(0))), float("nan"))
    i, j = align(r.cepstra[:, 1:], a.cepstra[:, 1:])
    return {"mcd": cepstra.mcd(r.cepstra[i], a.cepstra[j]), **pitch.compare(r.f0[i], a.f0[j])}
