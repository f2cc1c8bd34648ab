"""Text with its alignment: for every character, the span of the original text that it comes from."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence

from sopro_np.text.lazily import Lazily

Edit = tuple[int, int, str]  # characters [start, end) become this text


def span_of(starts: Sequence[int], ends: Sequence[int], first: int, last: int) -> tuple[int, int]:
    """The original span of characters first..last-1; of none: an empty one, where the character before begins."""
    if first < last:
        return starts[first], max(ends[first:last])
    where = starts[max(first - 1, 0)] if len(starts) else 0
    return where, where


class Aligned:
    """A text and, per character, start and end (exclusive) in the original; starts never decrease."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str, starts: Sequence[int] | None = None, ends: Sequence[int] | None = None) -> None:
        self.text = text
        self.starts = array("q", range(len(text)) if starts is None else starts)
        self.ends = array("q", range(1, len(text) + 1) if ends is None else ends)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The original span of characters first..last-1; of none: an empty one, where the character before begins."""
        return span_of(self.starts, self.ends, first, last)

    def edit(self, edits: Iterable[Edit]) -> Aligned:
        """All edits at once; they are in order and do not overlap. What is new comes from what it replaces."""
        pieces: list[str] = []
        starts, ends = array("q"), array("q")
        done = 0
        for first, last, new in edits:
            pieces += self.text[done:first], new
            starts += self.starts[done:first]
            ends += self.ends[done:first]
            if new:
                start, end = self.span(first, last)
                starts += array("q", [start]) * len(new)
                ends += array("q", [end]) * len(new)
            done = last
        pieces.append(self.text[done:])
        aligned = Aligned.__new__(Aligned)
        aligned.text = "".join(pieces)
        aligned.starts, aligned.ends = starts + self.starts[done:], ends + self.ends[done:]
        return aligned

    def edits(self, pattern: re.Pattern[str] | Lazily, replace: Callable[[re.Match[str]], str | None]) -> list[Edit]:
        """What `replace` changes in the matches of `pattern`; None leaves a match as it is."""
        found: list[Edit] = []
        for match in pattern.finditer(self.text):
            new = replace(match)
            if new is not None and new != match[0]:
                found.append((match.start(), match.end(), new))
        return found
