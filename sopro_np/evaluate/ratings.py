"""What listeners said (the JSON of a listening page) as figures: preferences, ABX scores, mean opinions."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.errors import UsageError
from sopro_np.evaluate.bootstrap import interval

MAX_BYTES = 1 << 24


def read_ratings(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Answers of all files; UsageError names a file that no listening page has written."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            content = json.loads(Path(path).read_bytes()[:MAX_BYTES])
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read as answers of a listening page ({error})") from None
        needed = {"listener", "kind", "text", "A", "B", "X", "answer"}
        if not isinstance(content, list) or not all(isinstance(r, dict) and needed <= set(r) for r in content):
            raise UsageError(f"{path}: these are not the answers that a listening page saves as JSON")
        rows += content
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """mos: system -> mean and 95 % interval over texts; ab: pair -> wins and p; abx: pair -> correct, p.

    p: exact binomial test, two-sided for preferences (answers without one are counted and left out), one-sided for ABX
    (better than guessing).
    """
    out: dict[str, Any] = {"listeners": len({r["listener"] for r in rows}), "answers": len(rows)}
    opinions = [r for r in rows if r["kind"] == "mos" and str(r["answer"]) in "12345"]
    texts = {t: i for i, t in enumerate(sorted({r["text"] for r in opinions}))}
    out["mos"] = {}
    for system in sorted({r["A"] for r in opinions}):
        own = [r for r in opinions if r["A"] == system]
        found = interval(np.array([float(r["answer"]) for r in own]), np.array([texts[r["text"]] for r in own]))
        out["mos"][system] = found.as_dict()
    out["ab"], out["abx"] = {}, {}
    for pair in sorted({tuple(sorted((r["A"], r["B"]))) for r in rows if r["kind"] in ("ab", "abx")}):
        of_pair = [r for r in rows if r["kind"] != "mos" and tuple(sorted((r["A"], r["B"]))) == pair]
        wins = Counter(r[r["answer"]] for r in of_pair if r["kind"] == "ab" and r["answer"] in ("A", "B"))
        undecided = sum(r["kind"] == "ab" and r["answer"] not in ("A", "B") for r in of_pair)
        if wins or undecided:
            p = min(1.0, 2 * at_least(max(wins.values(), default=0), sum(wins.values())))
            out["ab"][" / ".join(pair)] = {**{s: wins[s] for s in pair}, "no difference": undecided, "p": p}
        guesses = [r[r["answer"]] == r["X"] for r in of_pair if r["kind"] == "abx" and r["answer"] in ("A", "B")]
        if guesses:
            out["abx"][" / ".join(pair)] = {
                "correct": sum(guesses),
                "of": len(guesses),
                "p": at_least(sum(guesses), len(guesses)),
            }
    return out


def at_least(hits: int, trials: int) -> float:
    """Probability of so many heads or more among `trials` tosses of a fair coin; 1 for no toss."""
    return sum(math.comb(trials, k) for k in range(hits, trials + 1)) / 2**trials
