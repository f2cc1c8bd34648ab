"""How long each stage takes on this machine, for a fixed number of frames.

Sampling is left to itself but may not end: every run does the same amount of work.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.engine import STREAM_LOOKAHEAD, Sopro, load
from sopro_np.ops import native
from sopro_np.ops.native.desk import DESK
from sopro_np.options import Options
from sopro_np.sampling import Sampler
from sopro_np.voice import Voice

TEXT = "The quick brown fox jumps over the lazy dog, and then it rests a while in the shade."
REFERENCE_FRAMES = 50
FIRST_FRAMES = 40  # length of the utterance whose first chunk is timed
FIRST_CHUNK = 4


def forced(tts: Sopro, frames: int, seed: int = 1, **more: Any) -> Options:
    """Options under which an utterance has exactly so many frames."""
    steps_at_zero = tts.model.stop.fresh(None, None, None).steps(0)
    return Options(
        max_frames=max(1, frames - steps_at_zero), min_gen_frames=2**30, stop_threshold=2.0, seed=seed, **more
    )


def random_voice(tts: Sopro, frames: int = REFERENCE_FRAMES) -> Voice:
    """A voice from random codes: as much work as any other."""
    config = tts.model.config
    codes = np.random.default_rng(1).integers(0, config.code_values, (frames, config.codebooks))
    return tts.voice_from_codes(codes)


def measure_stages(tts: Sopro, voice: Voice, frames: int, text: str = TEXT) -> dict[str, float]:
    """One utterance: seconds per stage. AR ends with the last sampled code, NAR with the last block."""
    options = forced(tts, frames, chunk_frames=frames)
    moments = [time.perf_counter()]
    choose = Sampler(seed=1)

    def sampler(logits: np.ndarray) -> int:
        moments.append(time.perf_counter())
        return choose(logits)

    session = tts.session(text, voice, options, sampler=sampler)
    blocks = list(session.blocks())
    refined = time.perf_counter()
    codes = np.concatenate(blocks)
    assert len(codes) == frames, (len(codes), frames)
    wav = tts.decode(codes)
    decoded = time.perf_counter()
    ar, nar, mimi = moments[-1] - moments[0], refined - moments[-1], decoded - refined
    audio = len(wav) / tts.sample_rate
    return {"audio_s": audio, "ar_s": ar, "nar_s": nar, "mimi_decode_s": mimi, "rtf": (ar + nar + mimi) / audio}


def first_audio(tts: Sopro, voice: Voice, lookahead: int | None) -> float:
    """Seconds from the text to the first chunk of 4 frames, with a prepared voice."""
    options = forced(tts, FIRST_FRAMES, chunk_frames=FIRST_CHUNK, lookahead=lookahead)
    start = time.perf_counter()
    next(tts.chunks(tts.session(TEXT, voice, options), options))
    return time.perf_counter() - start


def peak_rss_mb() -> float:
    """High-water mark of this process, as the kernel keeps it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def bench(path: Path, frames: int, runs: int, threads: int | None, ops_name: str | None) -> dict[str, Any]:
    """All figures of one model file; stages are medians over the runs."""
    start = time.perf_counter()
    tts = load(path, threads, ops_name)
    loaded = time.perf_counter() - start
    voice = random_voice(tts)
    start = time.perf_counter()
    tts.voice(0.1 * np.random.default_rng(1).standard_normal(tts.mimi.config.hop * REFERENCE_FRAMES).astype(np.float32))
    encoded = time.perf_counter() - start
    rows = [measure_stages(tts, voice, frames) for _ in range(runs)]
    stages = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    waits = (0, 6, STREAM_LOOKAHEAD, None) if tts.model.nar.looks_ahead else (None,)
    return {
        "model": path.name,
        "generation": tts.file.json("sources")["sopro"].get("generation", "?"),
        "recipe": tts.file.json("recipe")["name"],
        "ops": tts.ops,
        **_kernels(tts.ops),
        "threads": threads,
        "frames": frames,
        "runs": runs,
        "load_s": loaded,
        "voice_s": encoded,
        **stages,
        "ar_frames_per_s": frames / stages["ar_s"],
        "first_audio_s": {
            "none" if n is None else str(n): statistics.median(first_audio(tts, voice, n) for _ in range(runs))
            for n in waits
        },
        "peak_rss_mb": peak_rss_mb(),
    }


def _kernels(ops: str) -> dict[str, Any]:
    """Which machine code computed, and how much memory its results have taken in this thread."""
    if ops != "native":
        return {"target": None, "door": None, "arena_mb": None}
    found = native.kernels()
    return {"target": found.target, "door": found.door, "arena_mb": DESK.arena.nbytes / 2**20}
