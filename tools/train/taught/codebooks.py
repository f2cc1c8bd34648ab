"""Stage `taught-codebooks`: the parent's codebooks (../codebooks.py) of a teacher's frames -> work/codebooks.npz.

Frames come from all over the lessons, each utterance in its speaker's voice. What codes say deviates less from the mean
than what was coded, most of all in an envelope's fine detail, which makes speech dull. The gains make up for that:
they bring every value's deviation back to that of the frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from tools.train.codebooks import Codebooks, build, lost
from tools.train.taught.features import PITCHES, parameters, vectors
from tools.train.taught.speakers import said_by, speaker_of, speakers
from tools.train.taught.teach import Lessons

UNSEEN = 100  # utterances that say what is lost
MOST = 3.0  # of a gain
JUDGED = 40000  # frames that gains are found from


def frames(lessons: Lessons, numbers: Iterable[int], most: int, cfg: SimpleNamespace | None = None) -> np.ndarray:
    """(at most `most`, WIDTH) vectors of these utterances, in order; with cfg, each in its speaker's voice."""
    found, total = [], 0
    for number in numbers:
        if total >= most:
            break
        if lessons.entries[number][1]["frames"]:
            lesson = lessons[number]
            lesson = said_by(lesson, speakers(cfg)[speaker_of(number, cfg)]) if cfg else lesson
            found.append(vectors(parameters(lesson)))
            total += len(found[-1])
    return np.concatenate(found)[:most]


def gains(books: Codebooks, known: Tensor) -> Tensor:
    """(W,) by which what is said of the codes of frames (N, W) deviates as much as they do; 1 for the pitch."""
    said = books.said(books.codes(books.components(known)))
    found = (known.std(0) / said.std(0).clamp_min(1e-6)).clamp(1, MOST)
    found[-PITCHES:] = 1
    return found


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Codebooks of frames from everywhere but the last utterances, which say what is lost."""
    torch.set_num_threads(cfg.codec.threads)
    lessons, mimi = Lessons(work / "teacher" / "heart"), cfg.codec.mimi
    drawn = np.random.default_rng(cfg.seed).permutation(len(lessons) - UNSEEN)
    known = torch.from_numpy(frames(lessons, drawn, cfg.codec.clustered, cfg))
    found = build(
        known, mimi["codebook_dim"], mimi["codebook_size"], mimi["num_quantizers"], cfg.codec.semantic, cfg.seed,
        pitches=PITCHES, melody=cfg.codec.melody,
    )  # fmt: skip
    found.gains = gains(found, known[:: max(1, len(known) // JUDGED)])
    found.save(work)
    unseen = torch.from_numpy(frames(lessons, range(len(lessons) - UNSEEN, len(lessons)), 100000))
    print(f"taught-codebooks: {len(known)} frames; {lost(found, unseen)}", flush=True)
