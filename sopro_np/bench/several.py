"""Several utterances at once: how much more speech per second, and how long the last one to join waits.

One after the other and together take turns within a run, so that a change of the machine's mood meets both. What can
be gained has a bound: only the AR shares its weights, so n utterances take at least one AR, and n times the rest.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

from sopro_np.bench.stages import TEXT, forced, measure_stages
from sopro_np.engine import Sopro
from sopro_np.ops.native.commands import stopwatch
from sopro_np.voice import Voice

STREAM: dict[str, Any] = {"chunk_frames": 4, "lookahead": 0}
BEFORE = 8  # steps that the others have taken when the last one joins


def spoken(tts: Sopro, voice: Voice, count: int, together: int, **options: Any) -> float:
    """Seconds for `count` utterances, so many of them at once."""
    start = time.perf_counter()
    batch, waiting = tts.batch(together), count
    while waiting or len(batch):
        while waiting and len(batch) < together:
            batch.add(TEXT, voice, **{**options, "seed": waiting})
            waiting -= 1
        batch.step()
    return time.perf_counter() - start


def first_audio_of_the_last(tts: Sopro, voice: Voice, count: int, **options: Any) -> float:
    """Seconds from the moment when one more joins `count` - 1 streams to its first chunk."""
    batch = tts.batch(count)
    for i in range(count - 1):
        batch.add(TEXT, voice, **{**options, "seed": i})
    for _ in range(BEFORE):
        batch.step()
    start = time.perf_counter()
    last = batch.add(TEXT, voice, **options)
    while last not in [job for job, _ in batch.step()]:
        pass
    return time.perf_counter() - start


def python_share(tts: Sopro, voice: Voice, frames: int) -> float:
    """Of the time of one utterance, what is not spent inside kernels (0..1). Alone on one thread: else they overlap."""
    options = dataclasses.asdict(forced(tts, frames))
    tts.synthesize(TEXT, voice, **options)
    start = time.perf_counter()
    with stopwatch() as inside:
        tts.synthesize(TEXT, voice, **options)
    return 1 - inside.seconds / (time.perf_counter() - start)


def bench_batches(tts: Sopro, voice: Voice, frames: int, counts: Sequence[int], runs: int) -> dict[str, Any]:
    """Audio seconds per second for every number of utterances, whole and streamed in chunks of 4 frames."""
    audio = frames / tts.mimi.config.frame_rate
    ways = {"whole": {}, "streamed": STREAM}
    options = {way: dataclasses.asdict(forced(tts, frames, **more)) for way, more in ways.items()}
    for given in options.values():
        for count in {1, *counts}:
            spoken(tts, voice, count, count, **given)  # captured, and warm
    stages = [measure_stages(tts, voice, frames) for _ in range(runs)]
    ar, rest = (statistics.median(f(s) for s in stages) for f in (_ar, _rest))
    rows = []
    for count in counts:
        row: dict[str, Any] = {"utterances": count, "bound": count * (ar + rest) / (ar + count * rest)}
        for way, given in options.items():
            alone, together = [], []
            for _ in range(runs):  # A B A B
                alone.append(spoken(tts, voice, count, 1, **given))
                together.append(spoken(tts, voice, count, count, **given))
            times = statistics.median(alone), statistics.median(together)
            row[way] = {
                "one_by_one": count * audio / times[0], "together": count * audio / times[1],
                "ratio": times[0] / times[1],
            }  # fmt: skip
        waits = [first_audio_of_the_last(tts, voice, count, **options["streamed"]) for _ in range(runs)]
        row["first_audio_of_last_s"] = statistics.median(waits)
        rows.append(row)
    result: dict[str, Any] = {"frames": frames, "runs": runs, "rows": rows}
    if tts.threads == 1 and tts.ops == "native":
        result["python_share"] = statistics.median(python_share(tts, voice, frames) for _ in range(runs))
    return result


def _ar(stages: dict[str, float]) -> float:
    return stages["ar_s"]


def _rest(stages: dict[str, float]) -> float:
    return stages["nar_s"] + stages["mimi_decode_s"]


def table(result: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [
        "audio seconds per second; first audio: of the last to join, in chunks of 4 frames, lookahead 0",
        f"{'at once':>7} {'whole: 1 by 1':>14} {'together':>9} {'ratio':>6} {'bound':>6}"
        f" {'streamed: 1 by 1':>17} {'together':>9} {'ratio':>6} {'first audio':>12}",
    ]
    for r in result["rows"]:
        w, s = r["whole"], r["streamed"]
        lines.append(
            f"{r['utterances']:7} {w['one_by_one']:14.1f} {w['together']:9.1f} {w['ratio']:6.2f} {r['bound']:6.2f}"
            f" {s['one_by_one']:17.1f} {s['together']:9.1f} {s['ratio']:6.2f}"
            f" {1000 * r['first_audio_of_last_s']:9.0f} ms"
        )
    if "python_share" in result:
        lines.append(f"outside kernels: {result['python_share']:.1%} of one utterance's time, on one thread")
    return lines
