"""All figures of one model file."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.bench.processes import cold_start, stream_memory
from sopro_np.bench.roofline import roofline
from sopro_np.bench.stages import (
    REFERENCE_FRAMES,
    first_audio,
    measure_stages,
    peak_rss_mb,
    random_voice,
    weights_bytes,
)
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import SoproWarning
from sopro_np.ops import native


def bench(
    path: Path, frames: int, runs: int, threads: int | None, ops_name: str | None, precision: str | None = None
) -> dict[str, Any]:
    """All figures of one model file; stages are medians over the runs. `precision` as in `synthesize`."""
    start = time.perf_counter()
    tts = open_model(path, threads, ops_name)
    loaded = time.perf_counter() - start
    voice = random_voice(tts)
    heard = {"voice_s": _hear(tts)} if tts.mimi.hears else {}
    rows = [measure_stages(tts, voice, frames, precision=precision) for _ in range(runs)]
    stages = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    peak = peak_rss_mb()  # before the roofline takes its own memory
    waits = (0, 6, 16, None) if tts.model.nar.looks_ahead else (0, None)
    result = {
        "model": path.name,
        "generation": tts.file.json("sources")["sopro"].get("generation", "?"),
        "recipe": tts.file.json("recipe")["name"],
        "ops": tts.ops,
        "precision": tts.runtime.at(precision).precision,
        **_kernels(tts.ops),
        "threads": threads,
        "frames": frames,
        "runs": runs,
        "load_s": loaded,
        **heard,
        **stages,
        "ar_frames_per_s": frames / stages["ar_s"],
        "first_audio_s": {
            "none" if n is None else str(n): statistics.median(
                first_audio(tts, voice, n, precision) for _ in range(runs)
            )
            for n in waits
        },
        "peak_rss_mb": peak,
        "weights_bytes": weights_bytes(tts),
    }
    with tempfile.TemporaryDirectory() as folder:
        voice_file = Path(folder) / "bench.voice.safetensors"
        voice.save(voice_file)
        result["cold_start_s"] = statistics.median(cold_start(tts, voice_file, threads)[0] for _ in range(runs))
        result |= stream_memory(tts, voice_file, threads)
    if tts.ops == "native":
        result["roofline"] = roofline(lambda: measure_stages(tts, voice, frames, precision=precision), threads, runs)
    return result


def _hear(tts: Sopro) -> float:
    """Seconds that a reference recording takes."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SoproWarning)  # noise is as much work as speech
        samples = 0.1 * np.random.default_rng(1).standard_normal(tts.mimi.config.hop * REFERENCE_FRAMES)
        tts.voice(samples.astype(np.float32))
    return time.perf_counter() - start


def _kernels(ops: str) -> dict[str, Any]:
    """Which machine code computed."""
    found = native.kernels() if ops == "native" else None
    return {"target": found and found.target, "source": found and found.source}
