"""Blocks of a text: where it is cut so that each part can be normalised and split by itself, when it is needed.

A block is a paragraph, or several short ones. A paragraph that is longer than a block may be ends one at a list item,
else a sentence, else a blank. Inside a block the rules see everything, beyond it nothing: that is what makes the time
for a text proportional to its length, whatever stands in it, and the time before its first sentence short.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sopro_np.text.lazily import Lazily

LEAST = 500  # characters: short paragraphs are taken together up to here
FIRST = 100  # the first block is waited for
MOST = 4000  # and long ones are cut before this
PARAGRAPH = "\n\n"  # between two when they are said
BLANKS = re.compile(r"\s*+")
PARAGRAPH_END = re.compile(r"\n\s*\n")
# what a rule takes as one thing, and is not cut: comments, scripts, headings, items, tags, marks of pauses
UNCUT = Lazily(
    r"<!--(?:(?!--)[\s\S]){0,5000}-->|<(script|style)\b[^<>]{0,500}>[^<]{0,50000}</\1>|"
    r"<(h[1-6]|li)\b[^<>]{0,500}>[^<]{0,2000}</\2>|"
    r"</?[a-z!][^<>]{0,1000}>|\[\s{0,9}pause[^\[\]]{0,40}\]",
    re.I,
)
ITEM = re.compile(r"(?:[-*+•–] |\d{1,2}[.)] |#{1,6} |\| ?)\S")  # a line that is a paragraph of its own
# in a long paragraph, the best first: lists, sentences (a short word with a full stop may be a title), blanks
CUTS = (
    re.compile(rf"\n(?=[ \t]{{0,9}}{ITEM.pattern})"),
    re.compile(r"(?:(?<=[a-z]{4})\.|[!?])[\"'”’)\]]{0,3}(?=\s{1,9}[\"'“‘(\[]?[A-Z])"),
    re.compile(r"\s"),
)
LINE_END = re.compile(r"\r\n?|[\n\v\f\x85\u2028\u2029]")

Span = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """Characters start..end-1 of a text, no blanks at its edges; joint: what stands before it when it is said."""

    start: int
    end: int
    joint: str  # "\n\n": it begins a paragraph; " ": it goes on with one; "": the first block


def blocks(text: str, least: int = LEAST, most: int = MOST) -> Iterator[Block]:
    """The blocks of a text, in order, each found when it is asked for; together they hold all that is not blank."""
    uncut = UNCUT.finditer(text) if "<" in text or "[" in text else iter(())
    whole: list[Span] = []  # what must not be cut, from here to a little ahead
    at, joint = _after_blanks(text, 0), ""
    while at < len(text):
        whole = [span for span in whole if span[1] > at]
        while (not whole or whole[-1][0] < at + most) and (found := next(uncut, None)):
            whole.append(found.span())
        end = cut = _cut(text, at, least if joint else min(least, FIRST), most, whole)
        while text[end - 1].isspace():
            end -= 1
        yield Block(at, end, joint)
        at = _after_blanks(text, cut)
        joint = _joint(text, end, at)


def _after_blanks(text: str, at: int) -> int:
    blanks = BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _cut(text: str, at: int, least: int, most: int, whole: list[Span]) -> int:
    """Where the block that begins at `at` ends at the latest; there may be blanks before."""
    wall = at + most

    def stretch(spot: int) -> Span:
        """What must not be cut and holds this spot; (spot, spot): nothing."""
        i = bisect.bisect_left(whole, (spot, 0)) - 1
        return whole[i] if i >= 0 and spot < whole[i][1] else (spot, spot)

    def free(spot: int) -> bool:
        return stretch(spot) == (spot, spot)

    for mark in PARAGRAPH_END.finditer(text, at + least, wall):
        if free(mark.start()):
            return mark.start()
    if len(text) <= wall:
        return len(text)
    for form in CUTS:
        spots = [mark.end() for mark in form.finditer(text, at + most // 2, wall) if free(mark.end())]
        if spots:
            return spots[-1]
    first, last = stretch(wall)
    return first if first > at else last


def _joint(text: str, end: int, following: int) -> str:
    """Between a block's end and the next one's beginning there are only blanks."""
    breaks = LINE_END.findall(text, end, following)
    return PARAGRAPH if len(breaks) > 1 or "\u2029" in breaks or (breaks and ITEM.match(text, following)) else " "
