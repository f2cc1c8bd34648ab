"""When does an utterance count as failed? Five kinds, decided by rules that are printed with the figures.

Words decide wherever somebody heard them: those of the text and those heard are aligned. A recogniser errs, too, so
the length has to bear it out: whoever says k words of n twice needs longer for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sopro_np.evaluate.spelling import comparable
from sopro_np.evaluate.words import last_words_missing, repeats, words_beyond
from sopro_np.speech import Sentence

LONG, SHORT, LONGER = 2.0, 0.5, 1.0  # times, times, seconds
MANY, SHARE, BORNE = 3, 3, 0.5  # words; 1 / the share of a short text; of the length that so many words take
DEFINITIONS = {
    "no_stop": "did not end by itself: max_frames or the guard ended it",
    "silent": "no frame, or no sample above -60 dBFS",
    "runaway": f"more than {LONG:g} times as long as expected and {LONGER:g} s longer; or words heard after the text's "
    "last one that repeat nothing",
    "repeats": "phrases of one to five words heard again at once that the text does not say again",
    "truncation": f"the text's last words not heard; or some of them not, at less than {SHORT:g} times the length "
    "expected; or, where nobody listens, such a length",
}
NAMES = tuple(DEFINITIONS)
RULE = (
    f"of words so many count: {MANY}, or a third of the text's if it is shorter than {MANY * SHARE}; and the length "
    f"has to differ from the expected one by {BORNE:g} of what they take at least. Expected is what a straight line "
    "(Theil-Sen) through the run's median lengths gives for so many characters. The first recogniser's words are taken"
)
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


@dataclass(frozen=True)
class Pace:
    """How long a text takes in a run: seconds at its start and end, seconds per character."""

    start: float
    per_character: float

    @classmethod
    def of(cls, texts: Sequence[str], seconds: Sequence[float]) -> Pace:
        """Of the utterances that said anything: a line through the medians of texts of equal length, its slope the
        median of the slopes between any two; through zero where that would rise backwards or begin below it."""
        by_length: dict[int, list[float]] = {}
        for text, taken in zip(texts, seconds, strict=True):
            if taken > 0:
                by_length.setdefault(max(1, len(text)), []).append(taken)
        if not by_length:
            return cls(0.0, 1.0)
        x = np.array(sorted(by_length), np.float64)
        y = np.array([np.median(by_length[int(length)]) for length in x])
        i, j = np.triu_indices(len(x), 1)
        slope = float(np.median((y[j] - y[i]) / (x[j] - x[i]))) if len(i) else 0.0
        start = float(np.median(y - slope * x))
        if slope > 0 and start >= 0:
            return cls(start, slope)
        return cls(0.0, float(np.median([t / length for length, found in by_length.items() for t in found])))

    def __call__(self, text: str) -> float:
        """Seconds expected of a text."""
        return self.start + self.per_character * max(1, len(text))


def classify(
    text: str, wav: np.ndarray, seconds: float, expected: float, finish_reason: str | None, heard: str | None
) -> list[str]:
    """Kinds of failure of one utterance, in the order of NAMES; [] is a good one.

    `expected`: seconds (Pace). `heard`: what a recogniser understood; None: nobody listened, length alone decides.
    """
    if not len(wav) or np.abs(wav).max() < SILENCE:
        return ["silent"]
    ratio, words = seconds / expected, max(1, len(comparable(text).split()))
    few = min(MANY, -(-words // SHARE))
    again, beyond, missing = 0, 0, 0
    if heard is not None:
        again, beyond, missing = (f(text, heard) for f in (repeats, words_beyond, last_words_missing))
    short = ratio < SHORT and (heard is None or missing > 0)
    found = {
        "no_stop": finish_reason in ("length", "cut"),
        "runaway": (ratio > LONG and seconds > expected + LONGER)
        or (beyond >= few and ratio > 1 + BORNE * beyond / words),
        "repeats": again >= few and ratio > 1 + BORNE * again / words,
        "truncation": short or (missing >= few and ratio < 1 - BORNE * missing / words),
    }
    return [name for name in NAMES if found.get(name)]
