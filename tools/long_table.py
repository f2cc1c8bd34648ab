"""A long text against its first sentence: time to first audio, memory, and speed against a batch that is kept full.

    python tools/long_table.py [MODEL] [--characters 500000] [--sentences 300]

First audio is taken alternately of the text and of its first sentence alone, medians of `--runs`. Then the text is
streamed for so many sentences (keep=False) in stretches; between them the same sentences are spoken as jobs of a
batch of the same width (what a text has on its way at most) which is refilled at once. Speed: frames per second.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sopro_np
from sopro_np.engine import Sopro
from sopro_np.errors import SoproError
from sopro_np.longform import AHEAD, Job

PARTS = (
    ("The old captain", "My neighbour", "A young doctor", "The whole village", "Dr. Miller", "Nobody in the house"),
    ("waited for the train", "paid $5 for the bread", "walked 3 km to the sea", "read it again", "left at 5pm"),
    ("before the rain began", "because it was late", "with 2 small dogs", "as the news had said", "on May 3"),
)
STRETCHES = 3


def book(characters: int, seed: int = 0) -> str:
    """Paragraphs of made sentences."""
    chosen, paragraphs, size = random.Random(seed), list[str](), 0
    while size < characters:
        parts = (" ".join(map(chosen.choice, PARTS)) for _ in range(chosen.randint(3, 7)))
        paragraphs.append(". ".join(parts) + ".")
        size += len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs)


def resident() -> float:
    """MB of this process."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def first_audio(tts: Sopro, text: str) -> float:
    """Seconds from the call to the first samples."""
    start = time.perf_counter()
    chunks = tts.stream(text, seed=1)
    next(chunks)
    return time.perf_counter() - start


def streamed(tts: Sopro, text: str, each: int, sentences: list[tuple[str, int]]) -> Iterator[tuple[int, float]]:
    """(frames, seconds) of stretch after stretch of a text; its sentences and their seeds are left in a list."""
    batch = tts.batch(1)
    job: Job = batch.add(text, keep=False, seed=1)
    try:
        while not job.done:
            start, before, frames = time.perf_counter(), len(job._sentences), job._frames
            while not job.done and len(job._sentences) < before + each:
                batch.step()
            sentences += ((s.text, s.seed) for s in job._sentences[before:])
            yield job._frames - frames, time.perf_counter() - start
    finally:
        batch.remove(job)


def refilled(tts: Sopro, sentences: list[tuple[str, int]]) -> tuple[int, float]:
    """(frames, seconds) of sentences as jobs of their own."""
    batch, waiting, jobs = tts.batch(AHEAD), list(sentences), list[Job]()
    start = time.perf_counter()
    while waiting or len(batch):
        while waiting and len(batch) < AHEAD:
            text, seed = waiting.pop(0)
            jobs.append(batch.add(text, keep=False, seed=seed, normalise=False))
        batch.step()
    return sum(job.speech.frames for job in jobs if job.speech is not None), time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="default: the embedded one")
    parser.add_argument("--characters", type=int, default=500_000)
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--runs", type=int, default=9)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    text = book(args.characters)
    try:
        tts = sopro_np.load(args.model)
    except SoproError as error:
        parser.exit(1, f"long_table: {error}\n")
    alone = text[: text.index(".", 12) + 1]
    tts.warm_up()
    times = [(first_audio(tts, text), first_audio(tts, alone)) for _ in range(args.runs)]
    whole, one = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"first audio: {whole:.3f} s of {len(text)} characters, {one:.3f} s of {alone!r}: {whole / one:.2f} times")
    said: list[tuple[str, int]] = []
    stretches = streamed(tts, text, args.sentences // STRETCHES, said)
    for _ in range(STRETCHES):
        before = len(said)
        frames, seconds = next(stretches)
        memory = resident()
        theirs, took = refilled(tts, said[before:])
        mine, bound = frames / seconds, theirs / took
        print(f"{len(said)} sentences: {mine:.0f} of {bound:.0f} frames/s ({mine / bound:.0%}), {memory:.0f} MB")
    stretches.close()  # type: ignore[attr-defined]
    return 0


if __name__ == "__main__":
    sys.exit(main())
