"""How fast a model speaks: frames against characters of its lessons, for the guard (sopro_np/pace.py).

It is stored as the metadata `speech` of a file, a checkpoint's or a converted model's; the converter passes it on.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sopro_np.errors import FormatError
from sopro_np.files import replacing
from sopro_np.pace import Pace
from sopro_np.tensorfile import read_header
from tools.train.growing import read_index

OUTSIDE = 0.004  # share of the lessons that may lie beyond each bound, before the margin
MARGIN = 1.2  # a good sentence may be so much shorter or longer than any lesson
ROUNDS = 50


def measure(characters: Sequence[int], frames: Sequence[int]) -> Pace:
    """Lessons of so many characters and frames -> Pace whose bounds hold at least 99 % of them.

    The line has the least absolute deviations (by reweighting), so that a few odd lessons do not move it.
    """
    n, t = np.asarray(characters, np.float64), np.asarray(frames, np.float64)
    if not len(n) or n.shape != t.shape or (n < 1).any() or (t < 1).any():
        raise ValueError("the pace needs lessons of at least one character and one frame")
    start, each = _line(n, t)
    expected = start + each * n
    low = np.quantile(t / np.maximum(each * n, 1e-9), OUTSIDE, method="lower") / MARGIN if each else 0.0
    high = np.quantile(t / expected, 1 - OUTSIDE, method="higher") * MARGIN
    low, high = np.floor(1000 * min(1.0, low)) / 1000, np.ceil(1000 * max(1.0, high)) / 1000
    return Pace(start, each, float(low), float(high), int(n.max()))


def _line(n: np.ndarray, t: np.ndarray) -> tuple[float, float]:
    """t = start + each * n with neither below zero, as good as it can be; rounded, for people read it."""
    weights = np.ones(len(n))
    start, each = float(np.median(t)), 0.0
    for _ in range(ROUNDS):
        a, b = np.average(n, weights=weights), np.average(t, weights=weights)
        spread = np.average((n - a) ** 2, weights=weights)
        each = max(0.0, float(np.average((n - a) * (t - b), weights=weights) / spread)) if spread > 1e-9 else 0.0
        start = float(b - each * a)
        weights = 1 / np.maximum(np.abs(t - start - each * n), 0.1)
    if start < 0:
        start, each = 0.0, float(np.median(t / n))
    return round(start, 3), round(each, 4)


def of_lessons(work: Path) -> Pace | None:
    """The pace of what was coded for training; None: the lessons are not here."""
    if not (work / "codes").exists():
        return None
    lessons = [e for e in read_index(work / "codes") if e["frames"]]
    if lessons and "text" in lessons[0]:  # a neural teacher's are kept with their texts
        return measure([len(e["text"]) for e in lessons], [e["frames"] for e in lessons])
    texts = [entry["text"] for entry in read_index(work / "data")]
    return measure([len(texts[e["number"]]) for e in lessons], [e["frames"] for e in lessons])


def write(path: Path, pace: Pace | None) -> None:
    """Into the metadata of a safetensors file (None: nothing to write); no byte of a tensor changes."""
    if pace is None:
        return
    _, metadata, start = read_header(path, any_dtype=True)
    raw = path.read_bytes()
    header = json.loads(raw[8:start])
    header["__metadata__"] = metadata | {"speech": json.dumps(dataclasses.asdict(pace))}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % 64)
    with replacing(path, FormatError) as f:
        f.write(struct.pack("<Q", len(text)) + text + raw[start:])
