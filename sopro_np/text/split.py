"""Segmentation: speakable text -> the sentences that the model is given one by one.

A sentence that the model cannot hold is cut at its clauses, a clause at its words, a word anywhere. A sentence of a
word or two joins its neighbour: models say them badly alone. (The package sentence-stream was tried first: it takes
"I met Bob. He left." for an abbreviation, does not see that a quotation mark opens a sentence, and loses offsets.)
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from sopro_np.text.lazily import Lazily
from sopro_np.text.spell import ONES, SCALES, TENS

SHORT = 12  # characters: a sentence up to this length is said together with its neighbour
CLOSERS = "[\"'”’)\\]}»]*+"
END = re.compile(rf"(?<![.!?…])[.!?…]++{CLOSERS}(?=\s)")  # if what follows can begin a sentence: "approx. ten" goes on
BLANKS = re.compile(r"\s*+")
ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|Mt|Jr|Sr|vs|No|Fig|Vol|Gen|Sen|Rep|Rev|Col|Capt|Lt|e\.g|i\.e)\.$"
)
CLAUSE = Lazily(rf"(?:[,;:…]{CLOSERS}|\s[–—-]++)(?=\s)|—")
WORD = re.compile(r"(?=\s)")
BREAK = re.compile(r"\[pause (\d+(?:\.\d+)?)\]|\n\s*\n")
ENDED = re.compile(rf"[.!?…]{CLOSERS}$")
CUT = " ,;:–—-"  # what may stand at the end of a part of a sentence

_NUMERALS = "|".join((*ONES, *filter(None, TENS), "hundred", "point", *SCALES))
_SCALES = "|".join(SCALES)
# before a cut: any part of a number; no end of its thousands, millions ...; and behind it
IN_NUMBER = Lazily(rf"\b(?:{_NUMERALS})\Z"), Lazily(rf"\b(?!(?:{_SCALES})\Z)(?:{_NUMERALS})\Z")
NUMBER_GOES_ON = Lazily(rf" (?:{_NUMERALS})\b")
NUMERAL = 20  # characters at most
TAIL = 20  # characters at the end of a piece, closing quotes and all
LONGEST = 4096  # characters: no model says more in one piece

Span = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """text: as the model gets it; start, end: where it stands in the text that was split; pause: seconds before it."""

    text: str
    start: int
    end: int
    pause: float


def split(
    text: str, fits: Callable[[str], bool], pause: float = 0.0, paragraph_pause: float = 0.0, first: int | None = None
) -> Iterator[Piece]:
    """Pieces of a whole text, as a Splitter finds them."""
    splitter = Splitter(fits, pause, paragraph_pause, first)
    yield from splitter.pieces(text)
    yield from splitter.end(len(text))


class Splitter:
    """Text, part by part -> pieces that `fits` accepts, in order; they cover all but blanks and marks of pauses.

    pause, paragraph_pause: seconds between sentences, and between paragraphs (blank lines). `[pause 0.5]` in the text
    is exactly that long instead; at the end of the text it becomes a piece without text. A first sentence of more than
    `first` characters begins with a clause of its own, so that something is heard early.
    """

    def __init__(
        self, fits: Callable[[str], bool], pause: float = 0.0, paragraph_pause: float = 0.0, first: int | None = None
    ) -> None:
        self._fits, self._pause, self._paragraph_pause = fits, pause, paragraph_pause
        self._first = first  # None: the first sentence is over
        self._asked: float | None = None  # for by marks since the last piece
        self._between, self._begun = 0.0, False

    def pieces(self, part: str) -> Iterator[Piece]:
        """The pieces of what follows in the text; start and end: in this part."""
        at = 0
        for mark in chain(BREAK.finditer(part), (None,)):
            stop = mark.start() if mark else len(part)
            for start, end, cut in _pieces(part, at, stop, self._fits, None if self._begun else self._first):
                yield Piece(
                    finished(part[start:end]), start, end, self._between if self._asked is None else self._asked
                )
                self._asked, self._between, self._begun = None, (0.0 if cut else self._pause), True
            if mark is None:
                return
            at = mark.end()
            if mark[1]:
                self._asked = (self._asked or 0.0) + float(mark[1])
            else:
                self.paragraph()

    def paragraph(self) -> None:
        """What follows begins a paragraph."""
        if self._begun:
            self._between = self._paragraph_pause

    def end(self, at: int) -> Iterator[Piece]:
        """The text ends after `at` characters: a pause may be left."""
        if self._asked:
            yield Piece("", at, at, self._asked)


def finished(text: str) -> str:
    """With the final punctuation by which the model finds its end."""
    if ENDED.search(text, len(text) - TAIL if len(text) > TAIL else 0):
        return text
    bare = text.rstrip(CUT)
    return f"{bare}." if bare else text


def _pieces(
    text: str, start: int, end: int, fits: Callable[[str], bool], first: int | None
) -> Iterator[tuple[int, int, bool]]:
    """(start, end, does its sentence go on in the next one) of the pieces of one block."""
    for a, b in _joined(text, _sentences(text, start, end), fits):
        parts = _cut(text, a, b, fits, first)
        first = None
        for i, (c, d) in enumerate(parts, 1):
            yield c, d, i < len(parts)


def _sentences(text: str, start: int, end: int) -> Iterator[Span]:
    at = start
    for mark in END.finditer(text, start, end):
        follows = BLANKS.match(text, mark.end())
        goes_on = follows is not None and "a" <= text[follows.end() : follows.end() + 1] <= "z"
        if not goes_on and not ABBREVIATION.search(text, max(at, mark.end() - 8), mark.end()):
            yield from _bare(text, at, mark.end())
            at = mark.end()
    yield from _bare(text, at, end)


def _joined(text: str, sentences: Iterator[Span], fits: Callable[[str], bool]) -> Iterator[Span]:
    """Short ones together with what follows; a short last one with what stands before it."""
    held: Span | None = None
    for a, b in sentences:
        if held is None:
            held = a, b
        elif min(held[1] - held[0], b - a) <= SHORT and fits(finished(text[held[0] : b])):
            held = held[0], b
        else:
            yield held
            held = a, b
    if held is not None:
        yield held


def _cut(text: str, a: int, b: int, fits: Callable[[str], bool], first: int | None = None) -> list[Span]:
    """One sentence -> the parts that fit: clauses, else words (numbers whole), else as many characters as do."""
    if first is not None and b - a > first:
        for mark in CLAUSE.finditer(text, a + SHORT, b - SHORT):
            head = next(_bare(text, a, mark.end()), None)
            if head and fits(finished(text[slice(*head)])):
                return [head, *_cut(text, *next(_bare(text, mark.end(), b)), fits)]
    if fits(finished(text[a:b])):
        return [(a, b)]
    for pattern, kept in ((CLAUSE, None), (WORD, IN_NUMBER[0]), (WORD, IN_NUMBER[1]), (WORD, None)):
        spots = [m.end() for m in pattern.finditer(text, a + 1, b) if a < m.end() < b]
        spots = [spot for spot in spots if not (kept and _inside(kept, text, spot))]
        if spots:
            parts = _packed(text, [a, *spots, b], fits)
            return [small for c, d in parts for small in (_cut(text, c, d, fits) if len(parts) > 1 else [(c, d)])]
    parts = []
    while a < b:
        sizes = range(1, min(b - a, LONGEST) + 1)
        size = max(1, bisect.bisect_right(sizes, False, key=lambda n: not fits(finished(text[a : a + n]))))
        parts.append((a, a + size))
        a += size
    return parts


def _inside(number: Lazily, text: str, spot: int) -> bool:
    return bool(NUMBER_GOES_ON.match(text, spot) and number.search(text[max(spot - NUMERAL, 0) : spot]))


def _packed(text: str, spots: list[int], fits: Callable[[str], bool]) -> list[Span]:
    """The text between neighbouring spots, in as few parts as fit, and these about equally long."""
    greedy = _filled(text, spots, fits)
    share = (spots[-1] - spots[0]) / len(greedy) if greedy else 0
    even = _filled(text, spots, lambda part: len(part) <= share + SHORT / 2 and fits(part))
    return even if len(even) <= len(greedy) else greedy


def _filled(text: str, spots: list[int], fits: Callable[[str], bool]) -> list[Span]:
    """As much together as fits, from the left."""
    parts: list[Span] = []
    start, last = spots[0], spots[0]
    for spot in spots[1:]:
        if last > start and not fits(finished(text[start:spot].strip())):
            parts += _bare(text, start, last)
            start = last
        last = spot
    return [*parts, *_bare(text, start, last)]


def _bare(text: str, start: int, end: int) -> Iterator[Span]:
    """Without blanks at its edges; nothing, if nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end
