"""What a process as a whole takes: a cold start, memory along a stream, events that `perf` counts."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sopro_np.bench.stages import (
    FIRST_CHUNK,
    FIRST_FRAMES,
    TEXT,
    forced,
    measure_stages,
    memory_mb,
    random_voice,
)
from sopro_np.engine import Sopro, open_model
from sopro_np.errors import ModelError
from sopro_np.ops.native import arena

STREAM_MARKS = (1, 8, 16, 32)  # seconds of audio after which a stream's memory is looked at
EVENTS = ("cycles", "instructions", "cache-references", "cache-misses")
# Modules come from where they come from here, in the same order: PYTHONPATH would put this package's folder, which
# may be that of all installed packages, before the standard library.
PATH = "import json, sys; sys.path[:] = json.loads(sys.argv.pop())\n"
CHILD = "import json, sys; from sopro_np.bench import processes as p; p.{}(*json.loads(sys.argv[1]))"
COLD = """
import json, sys, sopro_np
model, voice, text, threads, ops, options = json.loads(sys.argv[1])
tts = sopro_np.load(model, threads, ops)
next(tts.stream(text, tts.load_voice(voice), **options))
print(flush=True)
print(json.dumps(sorted(sys.modules)))
"""


def _spawn(code: str, arguments: object, before: Sequence[str] = ()) -> tuple[float, str]:
    """Run Python code in a new process -> seconds until its first line was there, all that it wrote after it."""
    command = [*before, sys.executable, "-c", PATH + code, json.dumps(arguments), json.dumps(sys.path)]
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            seconds = time.perf_counter() - start
            rest = child.stdout.read()
        if child.returncode:
            errors.seek(0)
            raise ModelError(f"a process of the bench failed: {errors.read().strip() or child.returncode}")
    return seconds, rest


def cold_start(tts: Sopro, voice_file: Path, threads: int | None) -> tuple[float, list[str]]:
    """Seconds from the start of a new process to its first audio, and the modules it has loaded by then.

    It opens the model and a saved voice, and streams; the files are in the system's cache.
    """
    options = dataclasses.asdict(forced(tts, FIRST_FRAMES, chunk_frames=FIRST_CHUNK))
    seconds, modules = _spawn(COLD, [str(tts.path), str(voice_file), TEXT, threads, tts.ops, options])
    return seconds, json.loads(modules)


def stream_memory(tts: Sopro, voice_file: Path, threads: int | None) -> dict[str, Any]:
    """A new process that streams 32 s: its memory on the way, and what its arenas hold at the end."""
    frames = math.ceil(STREAM_MARKS[-1] * tts.mimi.config.frame_rate)
    arguments = [str(tts.path), str(voice_file), threads, tts.ops, dataclasses.asdict(forced(tts, frames))]
    code = CHILD.format("stream_child")
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
            rss[str(waiting.pop(0))] = memory_mb("VmRSS")
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
        code = CHILD.format("events_child")
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
