"""What will be said for a text: normalised, cut into sentences that the model can hold, and how each is begun."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sopro_np.errors import SoproWarning
from sopro_np.guard import Guard, derived_seed
from sopro_np.mimi.codec import Mimi
from sopro_np.options import Options
from sopro_np.pace import Pace
from sopro_np.session import AudioStream, Session
from sopro_np.speech import check_text
from sopro_np.text.blocks import PARAGRAPH
from sopro_np.text.normalise import TOLD, Normaliser, as_given
from sopro_np.text.split import Piece, Splitter
from sopro_np.tokenizer import Tokenizer

FIRST = 100  # characters: a first sentence longer than this starts with its first clause, to be heard early


@dataclass(frozen=True)
class Part:
    """Some sentences of a text whose others are spoken apart from them; all parts end to end sound like the whole text.

    Its length is in characters. pieces: as `sentences` found them; position: of the first of them in the text, from 0;
    level: of the text's first sentence, to which they are matched (Speech.level of the part that it was in).
    """

    pieces: tuple[Piece, ...]
    position: int = 0
    level: float = 0.0

    def __len__(self) -> int:
        return sum(len(piece.text) for piece in self.pieces)


@dataclass(frozen=True)
class Script:
    """The sentences of a text, made when they are needed (their start and end: in the text that was given).

    begin: (sentence, its position) -> the utterance; options: with a seed; sample_rate in Hz, hop: samples of a frame;
    position, level: where in a text they stand, as in Part.
    """

    pieces: Iterator[Piece]
    begin: Callable[[Piece, int], tuple[Session, AudioStream]]
    options: Options
    sample_rate: int
    hop: int
    position: int = 0
    level: float = 0.0


def write_script(
    text: str | Part,
    options: Options,
    pace: Pace,
    tokenizer: Tokenizer,
    tokens: int,
    session: Callable[..., Session],
    mimi: Mimi,
) -> Script:
    """Script of a text for a model that speaks at this pace and takes so many tokens at once.

    session: (sentence, options=, guard=) -> the utterance. UsageError if there is nothing that could be said, or
    something that the tokenizer does not know (what is normalised it knows).
    """
    assert options.seed is not None
    seed, retries = options.seed, options.retries if options.top_k != 1 else 0  # greedy: every try would be the same

    def begin(piece: Piece, position: int) -> tuple[Session, AudioStream]:
        own = replace(options, seed=derived_seed(seed, position, 0))
        forced = options.min_gen_frames or 0
        guard = Guard(pace, len(piece.text), seed, position, retries, forced) if options.guard else None
        return session(piece.text, options=own, guard=guard), AudioStream(mimi, own)

    rate, hop = mimi.config.sample_rate, mimi.config.hop
    if isinstance(text, Part):
        return Script(iter(text.pieces), begin, options, rate, hop, text.position, text.level)
    pieces = sentences(text, options, fitting(pace, tokenizer.encode, tokens))
    if not options.normalise:
        tokenizer.check(text)
    return Script(pieces, begin, options, rate, hop)


def fitting(pace: Pace, encode: Callable[[str], np.ndarray], tokens: int) -> Callable[[str], bool]:
    """Can a model that speaks at this pace, and takes so many tokens at once, hold a sentence?"""
    return lambda sentence: len(sentence) <= pace.longest and len(encode(sentence)) <= tokens


def sentences(text: str, options: Options, fits: Callable[[str], bool]) -> Iterator[Piece]:
    """Text -> what is given to the model, piece by piece, each when it is asked for.

    UsageError, before the first one, if there is something that it cannot say, or nothing that it could.
    """
    check_text(text)
    if options.normalise:
        chosen = Normaliser(day_first=options.day_first, lexicon=options.lexicon, lenient=options.lenient)
        passages, left_out = chosen.read(text)
        if left_out:
            warnings.warn(f"left out, it cannot be said: {left_out[:TOLD]!r}", SoproWarning, stacklevel=2)
    else:
        passages = as_given(text)
    splitter = Splitter(fits, options.pause, options.paragraph_pause, first=FIRST)

    def placed() -> Iterator[Piece]:
        for start, joint, spoken in passages:
            if joint == PARAGRAPH:
                splitter.paragraph()
            for piece in splitter.pieces(spoken.text):
                first, last = spoken.span(piece.start, piece.end)
                yield Piece(piece.text, start + first, start + last, piece.pause)
        yield from splitter.end(len(text))

    return placed()
