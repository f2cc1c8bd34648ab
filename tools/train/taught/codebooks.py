"""Stage `taught-codebooks`: the parent's codebooks (../codebooks.py) of a teacher's frames -> work/codebooks.npz."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tools.train.codebooks import build, lost
from tools.train.taught.features import PITCHES, parameters, vectors
from tools.train.taught.teach import Lessons

UNSEEN = 100  # utterances that say what is lost


def frames(lessons: Lessons, numbers: range, most: int) -> np.ndarray:
    """(at most `most`, WIDTH) vectors of these utterances, in order."""
    found, total = [], 0
    for number in numbers:
        if lessons.entries[number][1]["frames"] and total < most:
            found.append(vectors(parameters(lessons[number])))
            total += len(found[-1])
    return np.concatenate(found)[:most]


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Codebooks of the first frames; the last utterances say what is lost."""
    torch.set_num_threads(cfg.taught.threads)
    lessons, taught = Lessons(work / "teacher" / "heart"), cfg.taught
    known = torch.from_numpy(frames(lessons, range(len(lessons) - UNSEEN), taught.clustered))
    found = build(
        known, taught.components, taught.values, taught.codebooks, taught.semantic, taught.seed, pitches=PITCHES
    )
    found.save(work)
    unseen = torch.from_numpy(frames(lessons, range(len(lessons) - UNSEEN, len(lessons)), 100000))
    print(f"taught-codebooks: {len(known)} frames; {lost(found, unseen)}", flush=True)
