"""Stage `teach`: the texts as a teacher's parameters, in shards that grow; and the reading of them.

A codec's frame is 80 ms and the teacher's durations count in 25: it speaks a little faster, and three of its steps are
said in one frame. So a frame's phonemes begin and end at thirds of it, and the same phonemes give the same frames. Of
the silence before the first phoneme one frame is kept: speech begins where a frame does.

work/teacher/heart/000, 001, ... (growing.py) hold levels.f16 (SUB x POINTS values a frame), voicing.u8 (SUB x BANDS,
times 255) and pitch.f16 (SUB, Hz, 0 = none); index.jsonl has text, symbols and durations (in thirds of a frame).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tools.train.growing import Column, Growing, read_index
from tools.train.taught import hibari
from tools.train.taught.analysis import BANDS, POINTS, SUB, analyse, pitch_at
from tools.train.vocoder import FRAME

STEPS = 3  # of durations in a frame
PART = STEPS * hibari.STEP / SUB  # samples of the teacher's that are said in 10 ms
PACE = FRAME / (STEPS * hibari.STEP)  # at which it speaks, so that what is said in frames has its own pace
COLUMNS = (
    Column("levels.f16", np.float16, SUB * POINTS),
    Column("voicing.u8", np.uint8, SUB * BANDS),
    Column("pitch.f16", np.float16, SUB),
)


@dataclass
class Taught:
    """levels (8 T, POINTS), voicing (8 T, BANDS), pitch (8 T,) every 10 ms; symbols, durations (n,) in thirds of T."""

    levels: np.ndarray
    voicing: np.ndarray
    pitch: np.ndarray
    symbols: str
    durations: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.pitch) // SUB


def taught(teacher: hibari.Hibari, text: str) -> Taught | None:
    """A text as parameters; None where the teacher would not say it at once."""
    phonemes = teacher.phonemes(text)
    if not phonemes:
        return None
    said = teacher.say(phonemes, PACE)
    durations = np.concatenate(([STEPS], said.durations[1:]))
    frames, moved = -(-int(durations.sum()) // STEPS), int(said.durations[0]) - STEPS
    known = from_start(said.pitch, moved * hibari.STEP // hibari.HOP)
    tonal, other = (from_start(wave, moved * hibari.STEP) for wave in hibari.branches(said))
    pitch = pitch_at(known, hibari.HOP, frames * SUB, PART)
    return Taught(*analyse(tonal, other, pitch, PART), pitch, said.symbols, durations)


def from_start(values: np.ndarray, start: int) -> np.ndarray:
    """Values from that place on; before the first there are zeros."""
    return values[start:] if start >= 0 else np.pad(values, (-start, 0))


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Teach the texts of stage `texts`, going on where an interruption stopped."""
    texts, teacher, size = read_index(work / "texts"), hibari.Hibari(), cfg.teacher.shard
    if not texts:
        raise SystemExit("teach: there are no texts yet; run the stage `texts` first")
    for shard in range(-(-min(cfg.teacher.utterances, len(texts)) // size)):
        folder, wanted = work / "teacher" / "heart" / f"{shard:03d}", texts[shard * size : (shard + 1) * size]
        wanted = wanted[: cfg.teacher.utterances - shard * size]
        if len(read_index(folder)) >= len(wanted):
            continue
        began = time.time()
        with Growing(folder, "frames", *COLUMNS) as files:
            first = files.count
            for record in wanted[first:]:
                add(files, record, taught(teacher, record["text"]))
            rate = (files.count - first) / (time.time() - began)
            done = f"{files.count} utterances, {files.total} frames, {rate:.2f} a second"
            print(f"teach: shard {shard}, {done}", flush=True)


def add(files: Growing, record: dict, found: Taught | None) -> None:
    """One utterance; one that is not said takes its place with no frames, so that text i stays utterance i."""
    if found is None:
        found = Taught(np.zeros((0, POINTS)), np.zeros((0, BANDS)), np.zeros(0), "", np.zeros(0, int))
    entry = {"text": record["text"], "kind": record["kind"], "symbols": found.symbols}
    entry |= {"durations": found.durations.tolist(), "frames": found.frames}
    files.add(entry, found.levels, np.round(found.voicing * 255), found.pitch)


class Lessons:
    """All shards of a voice for reading."""

    def __init__(self, folder: Path) -> None:
        self.entries, self.arrays = [], []
        for shard in sorted(folder.iterdir()):
            entries = read_index(shard)
            total = entries[-1]["start"] + entries[-1]["frames"] if entries else 0
            if total:
                arrays = [np.memmap(shard / c.name, c.dtype, "r")[: total * c.width] for c in COLUMNS]
                shapes = ((total * SUB, POINTS), (total * SUB, BANDS), (total * SUB,))
                self.arrays.append([a.reshape(s) for a, s in zip(arrays, shapes, strict=True)])
                self.entries += [(len(self.arrays) - 1, entry) for entry in entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> Taught:
        """One utterance."""
        shard, entry = self.entries[number]
        span = slice(entry["start"] * SUB, (entry["start"] + entry["frames"]) * SUB)
        levels, voicing, pitch = (array[span].astype(np.float32) for array in self.arrays[shard])
        return Taught(levels, voicing / 255, pitch, entry["symbols"], np.array(entry["durations"], int))

    def __iter__(self) -> Iterator[Taught]:
        return (self[i] for i in range(len(self)))
