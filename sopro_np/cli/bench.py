"""`sopro-np bench`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

from sopro_np.bench import compare, several
from sopro_np.bench.processes import count_events
from sopro_np.bench.roofline import table
from sopro_np.bench.run import bench
from sopro_np.bench.stages import random_voice
from sopro_np.cli.doctor import examine
from sopro_np.engine import open_model
from sopro_np.errors import UsageError
from sopro_np.locate import find_model


def run(args: argparse.Namespace) -> int:
    """Figures for people on stderr, or JSON or a table row on stdout."""
    if args.frames < 8 or args.runs < 1:
        raise UsageError("--frames must be at least 8 and --runs at least 1")
    if args.batch and args.compare:
        raise UsageError("--compare is for the figures of one utterance: leave --batch out")
    if args.batch and args.precision:
        raise UsageError("--precision is for the figures of one utterance: leave --batch out")
    before = compare.read(args.compare) if args.compare else None  # or an error, now
    model = find_model(args.model)
    if args.batch:
        return _batches(args, model)
    result = bench(model, args.frames, args.runs, args.threads, args.ops, args.precision)
    if args.perf:
        result["perf"], reason = count_events(model, args.frames, args.threads, result["ops"])
        if reason:
            print(f"sopro-np: --perf: {reason}", file=sys.stderr)
    row, whole = None, dict(result)
    if args.share:
        cpu = examine()["cpu"]
        first = ", ".join(f"{k}: {1000 * v:.0f} ms" for k, v in result["first_audio_s"].items())
        cells = (
            cpu, platform.machine(), f"{result['generation']} {result['recipe']}", result["ops"],
            str(result["threads"] or "all"),
            f"{result['rtf']:.3f}", f"{result['ar_frames_per_s']:.0f}", first, f"{result['peak_rss_mb']:.0f}",
        )  # fmt: skip
        row = "| " + " | ".join(cells) + " |"
    if args.json:
        print(_json(result | ({"share": row} if row else {})))
    elif row:
        print(row)
    if not (args.json or args.share):
        lines = table(result.pop("roofline")) if "roofline" in result else []
        for key, value in result.items():
            print(f"{key:16} {value:.4f}" if isinstance(value, float) else f"{key:16} {value}", file=sys.stderr)
        for line in lines:
            print(line, file=sys.stderr)
    if before is not None:
        print("\n".join(compare.table(before, whole)), file=sys.stderr)
    return 0


def _json(result: dict[str, Any]) -> str:
    """One line a figure, and for a list of records one line each."""
    lines = []
    for key, value in result.items():
        text = json.dumps(value)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}"


def _batches(args: argparse.Namespace, model: Path) -> int:
    """Several utterances at once, and nothing else."""
    tts = open_model(model, args.threads, args.ops)
    result = several.bench_batches(tts, random_voice(tts), args.frames, args.batch, args.runs)
    result = {"model": model.name, "ops": tts.ops, "threads": tts.threads, **result}
    if args.json:
        print(_json(result))
    else:
        print("\n".join(several.table(result)), file=sys.stderr)
    return 0
