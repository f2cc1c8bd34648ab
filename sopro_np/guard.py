"""The guard: is what codebook 0 says of a sentence likely to be that sentence? Judged before anything is heard.

Models of this kind fail in ways that show in the number and the sequence of their first codes: they do not find the
end, go round in circles, or stop at once. A sentence that failed is tried again with another seed; if every try
fails, the one that is nearest to a sentence is taken, and cut where the budget of its text ends.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sopro_np.pace import Pace

LOOP_FRAMES = 25  # 2 s of the same few codes over and over: no sentence has that
LOOP_PERIODS = 8  # up to so many frames repeat
LOOP_TIMES = 4  # at least so often
GRACE_FRAMES = 12  # 1 s in which to end, after frames that the caller forces

NO_END = "no end within its budget"
LOOP = "the same codes over and over"
TOO_SHORT = "too short for its text"


def derived_seed(seed: int, position: int, attempt: int) -> int:
    """Seed of sentence `position`, try `attempt`, both from 0: the seed itself for the first try of the first sentence.

    Else the first 8 bytes, little-endian, of SHA-256 of "SEED/POSITION/ATTEMPT" in decimal.
    """
    if position == attempt == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/{position}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def loop_length(codes: Sequence[int]) -> int:
    """How many of the last codes repeat with a period of at most LOOP_PERIODS; 0 if they are no loop."""
    for period in range(1, LOOP_PERIODS + 1):
        needed = max(LOOP_FRAMES, LOOP_TIMES * period)
        if len(codes) < needed or codes[-1] != codes[-1 - period]:
            continue
        length = period
        while length < len(codes) and codes[-1 - length] == codes[-1 - length + period]:
            length += 1
        if length >= needed:
            return length
    return 0


@dataclass(frozen=True)
class Try:
    """One attempt at a sentence: its codes of codebook 0 as far as they are kept, how it ended, what is wrong."""

    codes: tuple[int, ...]
    finish_reason: str  # "stop", "length" or "cut"
    problem: str | None
    attempt: int


@dataclass
class Guard:
    """Bounds for one sentence of `characters`; `retries` more tries at most; seeds by `derived_seed`.

    `forced`: frames that the caller wants at least. What ends soon after them is good.
    """

    pace: Pace
    characters: int
    seed: int
    position: int = 0
    retries: int = 2
    forced: int = 0

    def __post_init__(self) -> None:
        self.tries: list[Try] = []
        self.most = max(self.pace.most(self.characters), self.forced + GRACE_FRAMES if self.forced else 0)
        self.least = self.pace.least(self.characters)

    @property
    def next_seed(self) -> int:
        return derived_seed(self.seed, self.position, len(self.tries))

    def stops(self, codes: Sequence[int]) -> str | None:
        """Why an utterance that goes on should not; None: it may."""
        if self._loop(codes):
            return LOOP
        return NO_END if len(codes) >= self.most else None

    def _loop(self, codes: Sequence[int]) -> int:
        return loop_length(codes[self.forced :])

    def judge(self, codes: Sequence[int], finish_reason: str | None) -> Try:
        """A try that came to its end: by itself ("stop"), by the caller's limit ("length"), or because it `stops`."""
        problem: str | None = None
        kept = tuple(codes)
        if finish_reason is None:
            problem = self.stops(codes)
            finish_reason = "cut"
            kept = kept[: max(1, len(kept) - self._loop(codes) + LOOP_PERIODS)] if problem == LOOP else kept
        elif finish_reason == "stop" and len(codes) < self.least:
            problem = TOO_SHORT
        done = Try(kept, finish_reason, problem, len(self.tries))
        self.tries.append(done)
        return done

    def best(self) -> Try:
        """The try that is nearest to a sentence: sound ones first, then those with an end, then by their length."""
        expected = self.pace.expected(self.characters)
        return min(
            self.tries,
            key=lambda t: (
                t.problem is not None,
                t.finish_reason == "cut",
                abs(math.log(max(1, len(t.codes)) / expected)),
            ),
        )
