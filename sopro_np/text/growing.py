"""Segmentation of text that is still being written: a sentence is there as soon as what follows begins another one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sopro_np.text.split import ABBREVIATION, CLOSERS

# The end of a line ends a sentence at once, a blank only before what can begin the next one.
CANDIDATE = re.compile(rf"(?P<mark>[.!?…]{CLOSERS})(?:[^\S\n]*+(?P<line>\n)|\s++(?=\S))|\n[^\S\n]*+\n")
LONGEST = 1 << 14  # characters without an end are given on as they are
LOOK_BACK = 8  # characters of an abbreviation
SPACES = "".join(c for c in map(chr, range(0x3001)) if c.isspace())
PENDING = ".!?…\"'”’)]}»" + SPACES  # at the end of the text these may belong to an end that is not complete


class Growing:
    """Text in pieces -> its sentences, the same ones however it is cut into pieces.

    They are as written, not normalised: what goes over sentences (a block of code, say) is better given whole.
    """

    def __init__(self) -> None:
        self._text = ""
        self._from = 0  # up to here it holds no end

    def push(self, more: str) -> Iterator[str]:
        """The sentences that are complete now."""
        self._text += more
        while (end := self._next_end()) is not None:
            sentence, self._text, self._from = self._text[:end].strip(), self._text[end:], 0
            if sentence:
                yield sentence

    def end(self) -> Iterator[str]:
        """What is left when no more text comes."""
        rest, self._text, self._from = self._text.strip(), "", 0
        if rest:
            yield rest

    def _next_end(self) -> int | None:
        for found in CANDIDATE.finditer(self._text, self._from):
            if found.end() > LONGEST:
                break
            if self._ends(found):
                return found.end()
            self._from = found.start() + 1
        else:
            self._from = max(self._from, len(self._text.rstrip(PENDING)))
        return LONGEST if len(self._text) >= LONGEST else None

    def _ends(self, found: re.Match[str]) -> bool:
        if found["mark"] is None:  # a blank line
            return True
        goes_on = found["line"] is None and "a" <= self._text[found.end()] <= "z"
        return not goes_on and not ABBREVIATION.search(
            self._text, max(0, found.end("mark") - LOOK_BACK), found.end("mark")
        )
