"""Speaking rate: how many frames a text should take, and how many are too few or too many.

A model file may hold what was measured on its lessons (metadata `speech`, made by tools/train/pace.py); without that,
bounds are generous.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sopro_np.errors import FormatError

SLOW = 10.0  # characters a second, blanks included, of slow reading aloud (100 words a minute)
FAST = 30.0  # of the fastest that is still followed
GENEROUS = 2.5  # the bounds lie so far beyond slow and fast reading
PAUSES = 1.0  # seconds on top, for silence before and after
MOST_FRAMES = 399  # of one sentence: upstream's limit is 400
COMFORT = 300  # frames of slow reading that one sentence may take: what is longer is split


@dataclass(frozen=True)
class Pace:
    """Frames of a text of n characters: between `low` and `high` times `start` + `each` * n; n at most `longest`."""

    start: float
    each: float
    low: float
    high: float
    longest: int

    @staticmethod
    def unmeasured(frame_rate: float) -> Pace:
        """Of a model whose file says nothing."""
        start, each = PAUSES * frame_rate, frame_rate / SLOW
        low = SLOW / FAST / GENEROUS
        return Pace(start, each, low, GENEROUS, int((COMFORT - start) / each))

    @staticmethod
    def read(speech: Any, frame_rate: float) -> Pace:
        """From the metadata of a model file; FormatError if they are not understood."""
        if speech is None:
            return Pace.unmeasured(frame_rate)
        names = ("start", "each", "low", "high", "longest")
        if not isinstance(speech, dict) or set(speech) != set(names):
            raise FormatError(f"the metadata 'speech' must hold {', '.join(names)}")
        numbers = (isinstance(v, int | float) and not isinstance(v, bool) for v in speech.values())
        if not all(numbers) or not all(0 <= v <= 1e4 for v in speech.values()):  # not NaN either
            raise FormatError("the metadata 'speech' must hold numbers from 0 to 10000")
        pace = Pace(**{**speech, "longest": int(speech["longest"])})
        if not pace.low <= 1 <= pace.high or pace.longest < 1 or pace.start + pace.each <= 0:
            raise FormatError("the metadata 'speech' must have low <= 1 <= high, longest >= 1 and a time above 0")
        return pace

    def expected(self, characters: int) -> float:
        """Frames that so many characters take on average (unmeasured: slowly read)."""
        return self.start + self.each * characters

    def most(self, characters: int) -> int:
        """More frames than this are no speech any more."""
        return max(1, min(MOST_FRAMES, math.ceil(self.high * self.expected(characters))))

    def least(self, characters: int) -> int:
        """Fewer than this cannot hold the text."""
        return min(self.most(characters), max(1, math.floor(self.low * self.each * characters)))
