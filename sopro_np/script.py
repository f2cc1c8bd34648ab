"""What will be said for a text: normalised, cut into sentences that the model can hold, and how each is begun."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sopro_np.errors import SoproWarning
from sopro_np.options import Options
from sopro_np.session import AudioStream, Session
from sopro_np.speech import check_text
from sopro_np.text.normalise import normalise
from sopro_np.text.split import Piece, split

FIRST = 100  # characters: a first sentence longer than this starts with its first clause, to be heard early


@dataclass(frozen=True)
class Script:
    """The sentences of a text, made when they are needed (their start and end: in the text that was given).

    begin: (sentence, its position) -> the utterance; options: with a seed; sample_rate in Hz, hop: samples of a frame.
    """

    pieces: Iterator[Piece]
    begin: Callable[[Piece, int], tuple[Session, AudioStream]]
    options: Options
    sample_rate: int
    hop: int


def sentences(text: str, options: Options, fits: Callable[[str], bool]) -> Iterator[Piece]:
    """Text -> what is given to the model, piece by piece. UsageError if there is nothing that it could say."""
    check_text(text)
    pauses = options.pause, options.paragraph_pause
    if not options.normalise:
        return split(text, fits, *pauses, first=FIRST)
    spoken = normalise(text, day_first=options.day_first, lexicon=options.lexicon, lenient=options.lenient)
    if spoken.dropped:
        warnings.warn(f"left out, it cannot be said: {spoken.dropped[:40]!r}", SoproWarning, stacklevel=2)

    def placed() -> Iterator[Piece]:
        for piece in split(spoken.text, fits, *pauses, first=FIRST):
            start, end = spoken.span(piece.start, piece.end) if piece.text else (len(text), len(text))
            yield Piece(piece.text, start, end, piece.pause)

    return placed()
