"""What was said: the audio of one text, the codes behind it, how it ended, and the seed that says it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sopro_np.errors import NothingToSay, UsageError

_REMEDIES: dict[type, str] = {
    bytes: ": decode it, e.g. text.decode('utf-8')",
    list: ": speak them with synthesize_many, or join them",
    tuple: ": speak them with synthesize_many, or join them",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a text that was spoken.

    text: as the model was given it; span: (start, end) of it in the text that was given; start, end: seconds in the
    audio; seed: of the try that is heard; tries: how many there were; finish_reason as in Speech; problem: what the
    guard found wrong with the try that is heard, None: nothing. Spans are in order. Every character that is said is in
    exactly one, except where one thing that was written (a long number) is said in two sentences: both have it. Blanks
    and marks of pauses between sentences are in none.
    """

    text: str
    span: tuple[int, int]
    start: float
    end: float
    seed: int
    tries: int
    finish_reason: str
    problem: str | None


@dataclass(frozen=True, eq=False)
class Speech:
    """wav (samples,) float32 in [-1, 1]; codes (frames, codebooks) int64, of several sentences a list of such arrays.

    finish_reason: "stop"; "length" where max_frames ended a sentence; "cut" where the guard did. seed: the one given,
    or the one that was drawn. frames: of speech, without pauses. check: what may be wrong with it, in words, empty if
    nothing was found. sentences: where each is, in the text and in the audio. level: loudness of the text's first
    sentence (joints.Level).
    """

    wav: np.ndarray
    codes: Any
    finish_reason: str
    seed: int
    frames: int = 0
    check: tuple[str, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    level: float = 0.0


def check_text(text: Any) -> None:
    """UsageError for what cannot be said."""
    if not isinstance(text, str):
        remedy = _REMEDIES.get(type(text), "")
        raise UsageError(f"a text must be a str, not {type(text).__name__}{remedy}")
    if not text.strip():
        raise NothingToSay("the text is empty: there is nothing to say")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        # What Python makes of a byte of an argument that is not UTF-8.
        what = f"is not UTF-8 (the byte {code - 0xDC00:02X})" if 0xDC80 <= code <= 0xDCFF else "is a lone surrogate"
        raise UsageError(f"character {error.start} of the text {what}: give it as UTF-8") from None
