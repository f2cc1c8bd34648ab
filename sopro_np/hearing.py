"""What of a recording is heard: its mean, its silence, its speech, and whether it is good enough to imitate.

Everything here works on mono samples (n,) float32. Levels are in dB of the mean square (a sine of amplitude 1: -3).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from sopro_np.errors import AudioError, SoproWarning

SILENCE_PEAK = 1e-3  # -60 dBFS: below it there is no voice to imitate, only the converter's noise
LOUDEST_PEAK = 8.0  # +18 dBFS; more means integers stored as floats, not a loud recording
OFFSET = 1e-2  # a mean up to this share of the RMS is left alone: -40 dB; one second of speech has that by chance
SPEECH_SHARE = 0.25  # of the time; less in the middle, and another stretch is looked for
LEAST_SPEECH = 0.08  # seconds, one frame of the codec; less is no voice
# Where a warning begins.
SHORT = 1.0  # seconds of speech
CLIPPED = 0.01  # share of samples in the top 5 %; speech has 0.002, a voice clipped for a hundredth of the time 0.01
# times as many as in the 5 % below; a clean sine has 2.4 (it, too, is near its peak for a fifth of the time)
FLAT = 4.0
NOISY = 15.0  # dB between the loudest and the quietest tenth of 10 ms frames; read speech has 30 and more
QUIET = -30.0  # dB, of the loudest quarter of a second (usual: -15): below, -40 dB as in the original cuts speech


def without_offset(wav: np.ndarray) -> np.ndarray:
    """Subtract the mean, if it is more than OFFSET of what is left: (n,) -> (n,), else the same array.

    An offset cannot be heard, and yet turns the codec's pitch. A recording without one is not touched by a bit.
    """
    if not wav.size:
        return wav
    mean = float(wav.mean(dtype=np.float64))
    square = float(np.einsum("i,i->", wav, wav, dtype=np.float64)) / wav.size
    left = max(0.0, square - mean * mean)
    return wav if mean * mean <= OFFSET * OFFSET * left else (wav - mean).astype(np.float32)


def trim_silence(wav: np.ndarray, sample_rate: int, floor: float = -40.0) -> np.ndarray:
    """Cut quiet edges: (n,) or (channels, n) -> the same with fewer samples, a view.

    Frames of 25 ms every 10 ms count as voice when their energy is above `floor` dB and within 40 dB of the
    loudest one; 30 ms are kept around them. Unchanged if nothing is voice or less than 0.5 s would remain.
    Source: `trim_silence_energy` of the original.
    """
    mono = wav if wav.ndim == 1 else wav.mean(axis=0)
    frame, hop = int(sample_rate * 25 / 1000), int(sample_rate * 10 / 1000)
    if mono.size < int(0.1 * sample_rate) or mono.size < frame:
        return wav
    frames = np.lib.stride_tricks.sliding_window_view(mono, frame)[::hop]
    energy = np.einsum("ij,ij->i", frames, frames) / np.float32(frame)  # no copy of the overlapping frames
    level = 10 * np.log10(energy + np.float32(1e-10))
    voiced = np.flatnonzero(level > max(level.max() - 40, floor))
    if voiced.size == 0:
        return wav
    margin = int(0.03 * sample_rate)
    start = max(0, int(voiced[0]) * hop - margin)
    end = min(mono.size, int(voiced[-1]) * hop + frame + margin)
    return wav if end - start < int(0.5 * sample_rate) else wav[..., start:end]


def silence_floor(level: np.ndarray) -> float:
    """In dB: the original's, or what is that far below the voice of a quiet recording."""
    loud = loudest(level)
    return -40.0 if loud >= QUIET else loud - 25.0


def centre_crop(wav: np.ndarray, window: int) -> np.ndarray:
    """The middle `window` samples of (..., n), a view; all if n is smaller or `window` is not positive."""
    if window <= 0 or wav.shape[-1] <= window:
        return wav
    start = (wav.shape[-1] - window) // 2
    return wav[..., start : start + window]


def resample(wav: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """(n,) float32 at `rate` Hz -> (round(n * new_rate / rate),) at `new_rate` Hz (soxr, its quality HQ)."""
    if rate == new_rate:
        return wav
    import soxr  # here and not above: synthesis from a saved voice never resamples

    return soxr.resample(wav, rate, new_rate, quality="HQ")


class Loudness:
    """Level of every 10 ms of a recording that is heard block by block, whose mean is known only at its end."""

    def __init__(self, rate: int) -> None:
        self.hop = max(1, rate // 100)
        self._rest = np.zeros(0, np.float32)
        self._sums: list[np.ndarray] = []  # (2, frames): of samples, of squares

    def add(self, wav: np.ndarray) -> None:
        """The next samples (n,)."""
        wav = np.concatenate([self._rest, wav])
        whole = len(wav) // self.hop
        frames = wav[: whole * self.hop].reshape(whole, self.hop)
        squares = np.einsum("ij,ij->i", frames, frames, dtype=np.float64)
        self._sums.append(np.stack([frames.sum(axis=1, dtype=np.float64), squares]))
        self._rest = wav[whole * self.hop :].copy()

    def levels(self) -> np.ndarray:
        """(frames,) in dB, -100 at least, the mean of the whole removed."""
        total, squares = np.concatenate([np.zeros((2, 0)), *self._sums], axis=1) / self.hop
        mean = total.mean() if total.size else 0.0
        return 10 * np.log10(np.maximum(squares - 2 * mean * total + mean * mean, 1e-10))


def levels(wav: np.ndarray, rate: int) -> np.ndarray:
    """Level in dB of every 10 ms of (n,)."""
    loudness = Loudness(rate)
    loudness.add(wav)
    return loudness.levels()


def loudest(level: np.ndarray) -> float:
    """What the loudest quarter of a second reaches (of a short recording: its loudest twentieth); a click does not."""
    if not level.size:
        return -100.0
    place = min(25, level.size // 20)
    return float(np.partition(level, level.size - 1 - place)[level.size - 1 - place])


def speech(level: np.ndarray) -> np.ndarray:
    """Which 10 ms hold speech: bool (frames,). Within 30 dB of the loudest, and nearer to it than to the noise."""
    if not level.size:
        return np.zeros(0, bool)
    loud = loudest(level)
    return level >= max(loud - 30, (loud + float(np.percentile(level, 10))) / 2 - 3)


def fullest(spoken: np.ndarray, frames: int) -> int:
    """First of the `frames` consecutive ones with the most speech; among equals the one nearest to the middle."""
    if spoken.size <= frames:
        return 0
    counts = np.cumsum(np.concatenate([[0], spoken]))
    inside = counts[frames:] - counts[:-frames]
    places = np.flatnonzero(inside == inside.max())
    return int(places[np.abs(places - (spoken.size - frames) / 2).argmin()])


def stretch(name: str, wav: np.ndarray, rate: int, window: int) -> np.ndarray:
    """The `window` samples to imitate, a view: the middle as in the original, or another stretch if that is a pause."""
    if wav.size <= window:
        return wav
    middle = centre_crop(wav, window)
    hop = max(1, rate // 100)
    spoken, frames = speech(levels(wav, rate)), window // hop
    start = (wav.size - window) // 2 // hop
    share, most = float(spoken[start : start + frames].mean()), fullest(spoken, frames)
    better = float(spoken[most : most + frames].mean())
    if share >= SPEECH_SHARE or better <= share:
        return middle
    note(f"{name}: the middle holds little speech ({share:.0%} of the time, at least {SPEECH_SHARE:.0%}), so the "
          f"stretch from {most / 100:.1f} s on was taken ({better:.0%})")  # fmt: skip
    at = min(most * hop, wav.size - window)
    return wav[at : at + window]


def check_sound(name: str, wav: np.ndarray, rate: int, shortest: float) -> None:
    """Refuse a recording without a usable voice in it; `shortest` in seconds."""
    if not np.isfinite(wav).all():
        raise AudioError(f"{name}: has samples that are not numbers (NaN or infinity); make the recording again")
    if wav.size < shortest * rate:
        raise AudioError(
            f"{name}: is too short ({wav.size / rate:.3f} s, at least {shortest:g} s); record a few seconds of speech"
        )
    highest, lowest = float(wav.max()), float(wav.min())
    if max(highest, -lowest) > LOUDEST_PEAK:
        peak = max(highest, -lowest)
        raise AudioError(f"{name}: has samples up to {peak:.4g} where speech stays within 1; scale it to [-1, 1]")
    mean = float(wav.mean(dtype=np.float64))
    if max(highest - mean, mean - lowest) < SILENCE_PEAK <= abs(mean):
        raise AudioError(
            f"{name}: is constant (all near {mean:.3g}), so nothing can be heard; see that the microphone is on"
        )
    if max(highest - mean, mean - lowest) < SILENCE_PEAK:
        raise AudioError(f"{name}: is silent (all below -60 dBFS once its channels are mixed); record it louder")


def check_voice(name: str, wav: np.ndarray, rate: int, clipped: float) -> None:
    """What is left to imitate, judged: AudioError if it is no speech at all, else a warning for every weakness.

    `clipped`: its `clipped_share` as it was recorded.
    """
    level = levels(wav, rate)
    peak = float(np.abs(wav).max(initial=0.0))
    seconds = float(speech(level).sum()) / 100
    if peak < SILENCE_PEAK or seconds < LEAST_SPEECH:
        raise AudioError(f"{name}: no speech is left in the part that is used ({seconds:.2f} s); record it again")
    for weakness in _weaknesses(level, seconds, clipped):
        note(f"{name}: {weakness}")


def clipped_share(wav: np.ndarray) -> float:
    """Share of the samples of (n,) in the top 5 % of their side, if they heap up there; else 0: a peak is no plateau.

    A side counts if it is nearly as high as the other: the mean was removed, so that plateaus may differ a little.
    """
    rank = -1 - wav.size // 1000
    tops = [(side, float(np.partition(side, rank)[rank])) for side in (wav, -wav)]
    clipped, highest = 0.0, max(top for _, top in tops)
    for side, top in tops:
        share, below = float((side >= 0.95 * top).mean()), float((side >= 0.9 * top).mean())
        if top >= 0.8 * highest and share > FLAT * (below - share):
            clipped += share
    return clipped


def _weaknesses(level: np.ndarray, seconds: float, clipped: float) -> Iterator[str]:
    if seconds < SHORT:
        yield f"holds {seconds:.2f} s of speech, at least {SHORT:g} s (better 3) is wanted: the voice may be another"
    if clipped > CLIPPED:
        yield f"sounds clipped ({clipped:.1%} of the samples are near the peak, at most {CLIPPED:.0%}); record softer"
    quiet, loud = np.percentile(level, [10, 90])
    if loud - quiet < NOISY:
        yield f"sounds noisy (signal-to-noise ratio {loud - quiet:.0f} dB, at least {NOISY:g} dB); record it in silence"
    if (most := loudest(level)) < QUIET:
        yield f"is quiet (its loudest 0.25 s reach {most:.0f} dBFS, at least {QUIET:g} dBFS); record it louder"


_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Notes made inside, on this thread, are in the list and are no warnings."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(message: str) -> None:
    """Tell as a warning of ours, or to whoever has asked for notes."""
    if (notes := _notes.get()) is not None:
        notes.append(message)
    else:
        warnings.warn(message, SoproWarning, stacklevel=2)
