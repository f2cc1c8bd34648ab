"""When does an utterance count as failed? Four kinds, decided by rules that are printed with the figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sopro_np.evaluate.words import last_words_missing, repeats
from sopro_np.speech import Sentence

LONG, SHORT, SLOW = 2.0, 0.5, 1.25
DEFINITIONS = {
    "no_stop": "did not end by itself: max_frames or the guard ended it",
    "silent": "no frame, or no sample above -60 dBFS",
    "repeats": f"more than {LONG:g} times as long per character as the median utterance of the run; or phrases heard "
    f"twice in a row that the text does not have, three words or more, at over {SLOW:g} times the median length",
    "truncation": f"less than {SHORT:g} times as long per character as the median; or the last third of the text's "
    f"words (at least 3) not heard, at less than {1 / SLOW:g} times the median length",
}
NAMES = tuple(DEFINITIONS)
SILENCE = 1e-3
GUARD = (
    "guard: retries are tries beyond a sentence's first, cuts are sentences that it ended, failures are sentences with "
    "whose best try it still finds fault; what is heard and measured is that best try"
)


@dataclass(frozen=True)
class GuardCount:
    """What the guard did over some sentences (sopro_np/guard.py)."""

    sentences: int = 0
    retries: int = 0
    cuts: int = 0
    failures: int = 0

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> GuardCount:
        """Of one text's."""
        return cls(
            len(sentences),
            sum(s.tries - 1 for s in sentences),
            sum(s.finish_reason == "cut" for s in sentences),
            sum(s.problem is not None for s in sentences),
        )

    @classmethod
    def total(cls, counts: Iterable[GuardCount]) -> GuardCount:
        """Of all."""
        rows = [list(asdict(count).values()) for count in counts]
        return cls(*(sum(column) for column in zip(*rows, strict=True)))

    def __str__(self) -> str:
        return f"{self.sentences} sentences, {self.retries} retries, {self.cuts} cuts, {self.failures} failures"


def classify(
    text: str, wav: np.ndarray, seconds: float, pace: float, finish_reason: str | None, heard: str | None
) -> list[str]:
    """Kinds of failure of one utterance, in the order of NAMES; [] is a good one.

    `pace`: median seconds per character of the run. `heard`: what an ASR understood; None: no ASR, length alone
    decides.
    """
    if not len(wav) or np.abs(wav).max() < SILENCE:
        return ["silent"]
    ratio = seconds / (pace * max(1, len(text)))
    twice = ratio > SLOW and heard is not None and repeats(text, heard) >= 3
    words = max(3, len(text.split()) // 3)
    cut = ratio < 1 / SLOW and heard is not None and last_words_missing(text, heard) >= words
    found = {
        "no_stop": finish_reason in ("length", "cut"),
        "repeats": ratio > LONG or twice,
        "truncation": ratio < SHORT or cut,
    }
    return [name for name in NAMES if found.get(name)]


def median_pace(texts: Sequence[str], seconds: Sequence[float]) -> float:
    """Median seconds per character over the utterances that said anything."""
    paces = [s / max(1, len(t)) for t, s in zip(texts, seconds, strict=True) if s > 0]
    return float(np.median(paces)) if paces else 1.0
