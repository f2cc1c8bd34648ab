"""Incremental segmentation: text that is still being written -> the sentences that the whole text will be cut into.

A sentence is given out as soon as nothing that may follow can change it: it is over (sopro_np/text/growing.py), and
enough of the next one is there to know that the two are not said as one (sopro_np/text/split.py joins short ones).
What is known is asked of beginnings of the text that depend on the text alone, so pieces and timing change nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from sopro_np.errors import NothingToSay, UsageError
from sopro_np.text.growing import Growing
from sopro_np.text.split import SHORT, Piece

AHEAD = SHORT + 4  # characters of the next sentence; markup among them is not said
MARK = 24  # of a [pause] among them: half of one would be read as words
GROWTH = 8  # the text is looked at again when it has grown by an eighth: the work stays in proportion to its length


class Settled:
    """Text in pieces -> its sentences, each as early as it is certain. `position`: how many there were so far.

    `sentences`: text -> what would be said of it, if that were all (sopro_np.script.sentences). For ordinary prose what
    comes out is, in all, `sentences` of the whole text. Markup that spans sentences may be read another way as long as
    its end is not there; nothing is lost by that, or said twice.
    """

    def __init__(self, sentences: Callable[[str], Iterable[Piece]]) -> None:
        self.text = ""
        self.position = 0
        self._sentences = sentences
        self._growing = Growing()
        self._ends: deque[int] = deque()  # of sentences that may be settled
        self._found = 0  # up to here sentences were looked for
        self._asked = 0  # up to here they were looked at
        self._said = 0  # up to here they were given out

    def push(self, more: str) -> list[Piece]:
        """The sentences that are settled now."""
        self.text += more
        for sentence in self._growing.push(more):
            self._found = self.text.index(sentence, self._found) + len(sentence)
            self._ends.append(self._found)
        settled: list[Piece] = []
        while self._ends and (seen := self._seen(self._ends[0])) <= len(self.text):
            end = self._ends.popleft()
            if end * GROWTH >= self._asked * (GROWTH + 1):
                self._asked = end
                settled += self._new(self._before(end, self.text[:seen]), end)
        return settled

    def end(self) -> list[Piece]:
        """All that is left when no more text comes. UsageError if the text has something that cannot be said."""
        return self._new(list(self._sentences(self.text)), len(self.text))

    def _seen(self, end: int) -> int:
        """How much of the text has to be there to know of the sentence that ends here."""
        while end < len(self.text) and self.text[end].isspace():
            end += 1
        seen = end + AHEAD
        if (opened := self.text.rfind("[", end, seen)) >= 0:
            closed = self.text.find("]", opened, opened + MARK)
            seen = max(seen, opened + MARK if closed < 0 else closed + 1)
        return seen

    def _before(self, end: int, beginning: str) -> list[Piece]:
        """Sentences of a beginning of the text up to `end`; none if one goes on behind it."""
        try:
            pieces = [piece for piece in self._sentences(beginning) if piece.text]
        except UsageError:  # half a symbol, say: what follows may mend it; if it does not, the end will tell
            return []
        if any(piece.start < end < piece.end for piece in pieces):
            return []
        return [piece for piece in pieces if piece.end <= end]

    def _new(self, pieces: list[Piece], end: int) -> list[Piece]:
        """Those behind what was given out; where one has grown together with that, the rest up to `end` by itself."""
        said, new = self._said, [piece for piece in pieces if piece.end > self._said]
        if new and new[0].start < said:
            new = []
            with suppress(NothingToSay):
                rest = self._sentences(self.text[said:end])
                new = [replace(piece, start=said + piece.start, end=said + piece.end) for piece in rest]
        if new:
            self._said = new[-1].end
        self.position += sum(1 for piece in new if piece.text)
        return new
