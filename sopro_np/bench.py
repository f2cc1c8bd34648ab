"""How long each stage takes on this machine, for a fixed number of frames.

Sampling is left to itself but may not end: every run does the same amount of work. What a process as a whole takes (a
cold start, memory along a stream, events that `perf` counts) is measured in processes made for it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.engine import STREAM_LOOKAHEAD, Sopro, open_model
from sopro_np.errors import ModelError
from sopro_np.ops import native
from sopro_np.ops.native import arena
from sopro_np.options import Options
from sopro_np.roofline import roofline
from sopro_np.sampler import Sampler
from sopro_np.voice import Voice

TEXT = "The quick brown fox jumps over the lazy dog, and then it rests a while in the shade."
REFERENCE_FRAMES = 50
FIRST_FRAMES = 40  # length of the utterance whose first chunk is timed
FIRST_CHUNK = 4
STREAM_MARKS = (1, 8, 16, 32)  # seconds of audio after which a stream's memory is looked at
EVENTS = ("cycles", "instructions", "cache-references", "cache-misses")
COLD = """
import json, sys, sopro_np
model, voice, text, threads, ops, options = json.loads(sys.argv[1])
tts = sopro_np.load(model, threads, ops)
next(tts.stream(text, tts.load_voice(voice), **options))
print(flush=True)
print(json.dumps(sorted(sys.modules)))
"""


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
    return _memory_mb("VmHWM")


def _memory_mb(name: str) -> float:
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
    """Speak until a stream's steps are recorded (three chunks) -> bytes of its arenas; 0 on NumPy, which has none."""
    stream = tts.stream(TEXT, random_voice(tts), **_stream_options(tts, 3 * Options().chunk_frames))
    for _ in range(3):
        next(stream)
    return arena.bytes_of_all()


# ---------------------------------------------------------------- processes of their own


def _spawn(code: str, arguments: object, before: Sequence[str] = ()) -> tuple[float, str]:
    """Run Python code in a new process -> seconds until its first line was there, all that it wrote after it."""
    package = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    command = [*before, sys.executable, "-c", code, json.dumps(arguments)]
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        with subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            seconds = time.perf_counter() - start
            rest = child.stdout.read()
        if child.returncode:
            errors.seek(0)
            raise ModelError(f"a process of the bench failed: {errors.read().strip() or child.returncode}")
    return seconds, rest


def _stream_options(tts: Sopro, frames: int, **more: Any) -> dict[str, Any]:
    lookahead = STREAM_LOOKAHEAD if tts.model.nar.looks_ahead else None
    return dataclasses.asdict(forced(tts, frames, lookahead=lookahead, **more))


def cold_start(tts: Sopro, voice_file: Path, threads: int | None) -> tuple[float, list[str]]:
    """Seconds from the start of a new process to its first audio, and the modules it has loaded by then.

    It opens the model and a saved voice, and streams; the files are in the system's cache.
    """
    options = _stream_options(tts, FIRST_FRAMES, chunk_frames=FIRST_CHUNK)
    seconds, modules = _spawn(COLD, [str(tts.path), str(voice_file), TEXT, threads, tts.ops, options])
    return seconds, json.loads(modules)


def stream_memory(tts: Sopro, voice_file: Path, threads: int | None) -> dict[str, Any]:
    """A new process that streams 32 s: its memory on the way, and what its arenas hold at the end."""
    frames = math.ceil(STREAM_MARKS[-1] * tts.mimi.config.frame_rate)
    arguments = [str(tts.path), str(voice_file), threads, tts.ops, _stream_options(tts, frames)]
    code = "import json, sys; from sopro_np import bench; bench.stream_child(*json.loads(sys.argv[1]))"
    return json.loads(_spawn(code, arguments)[1])


def stream_child(model: str, voice: str, threads: int | None, ops: str, options: dict[str, Any]) -> None:
    """What the process of `stream_memory` does."""
    tts = open_model(model, threads, ops)
    waiting, rss, samples = list(STREAM_MARKS), {}, 0
    stream = tts.stream(TEXT, tts.load_voice(voice), **options)
    print(flush=True)
    while waiting:  # the stream is kept unfinished: its states are looked at, too
        samples += len(next(stream))
        while waiting and samples >= waiting[0] * tts.sample_rate:
            rss[str(waiting.pop(0))] = _memory_mb("VmRSS")
    print(json.dumps({"stream_rss_mb": rss, "arena_bytes": arena.bytes_of_all()}))


def count_events(
    path: Path, frames: int, threads: int | None, ops: str | None
) -> tuple[dict[str, int | None] | None, str]:
    """What the CPU counted for one utterance (a process that speaks less one that only loads), or None and why not."""
    if shutil.which("perf") is None:
        return None, "perf is not installed"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "perf"
        stat = ["perf", "stat", "-x,", "-o", str(log), "-e"]
        tried = subprocess.run([*stat, EVENTS[-1], "true"], capture_output=True, text=True, check=False)
        if tried.returncode or _events(log, EVENTS[-1:])[EVENTS[-1]] is None:
            said = [line for line in tried.stderr.splitlines() if line.strip() not in ("", "Error:")]
            return None, f"perf cannot count {EVENTS[-1]} here: {said[0] if said else 'not supported by this machine'}"
        code = "import json, sys; from sopro_np import bench; bench.events_child(*json.loads(sys.argv[1]))"
        counts = []
        for n in (0, frames):
            _spawn(code, [str(path), n, threads, ops], [*stat, ",".join(EVENTS), "--"])
            counts.append(_events(log, EVENTS))
    before, after = counts
    return {e: None if (x := before[e]) is None or (y := after[e]) is None else y - x for e in EVENTS}, ""


def events_child(model: str, frames: int, threads: int | None, ops: str | None) -> None:
    """What the processes of `count_events` do."""
    tts = open_model(model, threads, ops)
    voice = random_voice(tts)
    print(flush=True)
    if frames:
        measure_stages(tts, voice, frames)


def _events(log: Path, names: Sequence[str]) -> dict[str, int | None]:
    """Counts in the CSV of `perf stat -x,`: value, unit, event; several of a name (kinds of cores) are added up."""
    found: dict[str, int | None] = dict.fromkeys(names)
    for line in log.read_text().splitlines() if log.exists() else ():
        match = re.match(r"(\d+),[^,]*,(?:\w+/)?([\w-]+)", line)
        if match and match[2] in found:
            found[match[2]] = (found[match[2]] or 0) + int(match[1])
    return found


# ---------------------------------------------------------------- all of it


def bench(path: Path, frames: int, runs: int, threads: int | None, ops_name: str | None) -> dict[str, Any]:
    """All figures of one model file; stages are medians over the runs."""
    start = time.perf_counter()
    tts = open_model(path, threads, ops_name)
    loaded = time.perf_counter() - start
    voice = random_voice(tts)
    start = time.perf_counter()
    tts.voice(0.1 * np.random.default_rng(1).standard_normal(tts.mimi.config.hop * REFERENCE_FRAMES).astype(np.float32))
    encoded = time.perf_counter() - start
    rows = [measure_stages(tts, voice, frames) for _ in range(runs)]
    stages = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    peak = peak_rss_mb()  # before the roofline takes its own memory
    waits = (0, 6, STREAM_LOOKAHEAD, None) if tts.model.nar.looks_ahead else (None,)
    result = {
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
        "peak_rss_mb": peak,
        "weights_bytes": weights_bytes(tts),
    }
    with tempfile.TemporaryDirectory() as folder:
        voice_file = Path(folder) / "bench.voice.safetensors"
        voice.save(voice_file)
        result["cold_start_s"] = statistics.median(cold_start(tts, voice_file, threads)[0] for _ in range(runs))
        result |= stream_memory(tts, voice_file, threads)
    if tts.ops == "native":
        result["roofline"] = roofline(lambda: measure_stages(tts, voice, frames), threads, runs)
    return result


def _kernels(ops: str) -> dict[str, Any]:
    """Which machine code computed."""
    found = native.kernels() if ops == "native" else None
    return {"target": found and found.target, "door": found and found.door}
