"""How long each stage takes on this machine, for a fixed number of frames.

Sampling is left to itself but may not end: every run does the same amount of work.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.engine import Sopro
from sopro_np.ops.native import arena
from sopro_np.options import Options
from sopro_np.sampler import Sampler
from sopro_np.voice import Voice

TEXT = "The quick brown fox jumps over the lazy dog, and then it rests a while in the shade."
REFERENCE_FRAMES = 50
FIRST_FRAMES = 40  # length of the utterance whose first chunk is timed
FIRST_CHUNK = 4


def forced(tts: Sopro, frames: int, seed: int = 1, **more: Any) -> Options:
    """Options under which an utterance has exactly so many frames."""
    steps_at_zero = tts.model.stop.new_state().steps(0)
    exact: dict[str, Any] = {"min_gen_frames": 2**30, "stop_threshold": 2.0, "normalise": False, "guard": False}
    return Options(max_frames=max(1, frames - steps_at_zero), seed=seed, **{**exact, **more})


def random_voice(tts: Sopro, frames: int = REFERENCE_FRAMES) -> Voice:
    """A voice from random codes: as much work as any other."""
    config = tts.model.config
    codes = np.random.default_rng(1).integers(0, config.code_values, (frames, config.codebooks))
    return tts.voice_from_codes(codes)


def measure_stages(
    tts: Sopro, voice: Voice, frames: int, text: str = TEXT, precision: str | None = None
) -> dict[str, float]:
    """One utterance: seconds per stage. AR ends with the last sampled code, NAR with the last block."""
    options = forced(tts, frames, chunk_frames=frames, precision=precision)
    moments = [time.perf_counter()]
    choose = Sampler(Options(seed=1))

    def sampler(logits: np.ndarray) -> int:
        moments.append(time.perf_counter())
        return choose(logits)

    session = tts.session(text, voice, options, sampler=sampler)
    blocks = list(session.blocks())
    refined = time.perf_counter()
    codes = np.concatenate(blocks)
    assert len(codes) == frames, (len(codes), frames)
    wav = tts.decode(codes, precision)
    decoded = time.perf_counter()
    ar, nar, mimi = moments[-1] - moments[0], refined - moments[-1], decoded - refined
    audio = len(wav) / tts.sample_rate
    return {"audio_s": audio, "ar_s": ar, "nar_s": nar, "mimi_decode_s": mimi, "rtf": (ar + nar + mimi) / audio}


def first_audio(tts: Sopro, voice: Voice, lookahead: int | None, precision: str | None = None) -> float:
    """Seconds from the text to the first chunk of 4 frames, with a prepared voice."""
    options = forced(tts, FIRST_FRAMES, chunk_frames=FIRST_CHUNK, lookahead=lookahead, precision=precision)
    start = time.perf_counter()
    stream = tts.stream(TEXT, voice, **dataclasses.asdict(options))
    next(stream)
    return time.perf_counter() - start


def peak_rss_mb() -> float:
    """High-water mark of this process, as the kernel keeps it."""
    return memory_mb("VmHWM")


def memory_mb(name: str) -> float:
    """A line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return float("nan")


def weights_bytes(tts: Sopro) -> dict[str, int]:
    """Weights as they lie in memory that are read to speak: for every AR step, NAR block and piece of audio.

    Tables, of which a row is read at a time, and what is used once per voice or text, do not count.
    """
    model, mimi = tts.model, tts.mimi
    ar, quantizer = model.ar, mimi.quantizer
    attention = [(a.norm_query, a.query, a.out) for a in ar.attention.values()]
    parts: dict[str, Iterable[Any]] = {
        "ar": (ar.history, ar.blocks, attention, ar.norm, ar.head),
        "nar": model.nar.stages,
        "mimi_decode": (
            quantizer.semantic.output, quantizer.acoustic.output, mimi.upsample, mimi.decoder_transformer.layers,
            mimi.decoder,
        ),
    }  # fmt: skip
    return {name: _nbytes(part, set()) for name, part in parts.items()}


def _nbytes(thing: Any, seen: set[int]) -> int:
    """All that has a size below a tree of dataclasses and lists; what is shared counts once."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if hasattr(thing, "nbytes"):
        return int(thing.nbytes)
    if dataclasses.is_dataclass(thing):
        thing = [getattr(thing, f.name) for f in dataclasses.fields(thing)]
    return sum(_nbytes(part, seen) for part in thing) if isinstance(thing, list | tuple) else 0


def stream_arenas(tts: Sopro) -> int:
    """Speak until a stream's steps are captured (three chunks) -> bytes of its arenas; 0 on NumPy, which has none."""
    stream = tts.stream(TEXT, random_voice(tts), **dataclasses.asdict(forced(tts, 3 * Options().chunk_frames)))
    for _ in range(3):
        next(stream)
    return arena.bytes_of_all()
