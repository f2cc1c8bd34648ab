"""What a caller may choose for one utterance: one frozen record, the same everywhere, defaults and help included."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypedDict

from sopro_np.errors import UsageError
from sopro_np.precision import MODES

LARGEST = 2**31 - 1
NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 100), "top_p": (0, 1), "style_strength": (0, 100), "stop_threshold": (0, math.inf),
    "pause": (0, 60), "paragraph_pause": (0, 60),
}  # fmt: skip
WHOLE: dict[str, tuple[int, int | None]] = {
    "top_k": (0, LARGEST),
    "stop_patience": (1, LARGEST),
    "min_gen_frames": (0, LARGEST),
    "max_frames": (1, LARGEST),
    "lookahead": (0, LARGEST),
    "chunk_frames": (1, LARGEST),
    "seed": (0, None),
    "retries": (0, 100),
}
YES_OR_NO = ("normalise", "day_first", "lenient", "guard")  # fmt: skip


def _option(default: Any, help: str, letter: str) -> Any:
    """A field with what the command line says of it. `letter`: F a number, N a whole one, yes or no: an option without
    a value, which turns it on or (with "no-" before its name) off; FILE: a file is read."""
    return field(default=default, metadata={"help": help, "letter": letter})


@dataclass(frozen=True)
class Options:
    """Defaults of sampling are upstream's; None means the model's own value.

    temperature, top_p, top_k: sampling (temperature 0 = not applied; top_k = 1 is greedy).
    style_strength: how strongly the speaker vector acts.
    stop_threshold, stop_patience: for models that stop by a probability (v1); without meaning for others.
    min_gen_frames: no end before that many frames. max_frames: the end of a sentence at the latest (with an end
        code one frame later, as upstream).
    lookahead: None: codebook 0 of a sentence is said to its end, and judged, before it is heard. A number: it is heard
        while it is said; a non-causal model waits for so many frames before it fixes a block, a causal one for none.
    chunk_frames: frames per piece of audio. seed: None draws one from the system.
    normalise: numbers, abbreviations, markup ... are written out before the text reaches the model. day_first: 3/4 is
        the third of April. lexicon: word -> how it is to be read. lenient: what cannot be said is left out.
    pause, paragraph_pause: seconds of silence between sentences, and between paragraphs.
    guard: a sentence without an end, in a loop or too short is said again, at most `retries` times, with other seeds.
    precision: rows that int8 and int4 weights multiply have 8 bits ("fast"), 16 ("fine"), or 16 where 8 say them badly
        ("adaptive"). Other values of it are other speech, as another seed's is.
    """

    temperature: float = _option(1.05, "sampling temperature", "F")
    top_p: float | None = _option(0.9, "keep the likeliest codes up to this sum", "F")
    top_k: int = _option(50, "keep so many codes; 1 is greedy", "N")
    style_strength: float | None = _option(None, "weight of the speaker vector (the model's own)", "F")
    stop_threshold: float | None = _option(None, "probability that counts as an end, v1", "F")
    stop_patience: int | None = _option(None, "so many such frames in a row end it, v1", "N")
    min_gen_frames: int | None = _option(None, "no end before", "N")
    max_frames: int = _option(400, "the end at the latest; 12.5 are a second", "N")
    lookahead: int | None = _option(None, "frames that v1.5 waits for before it fixes a block; all: offline", "N|all")
    chunk_frames: int = _option(16, "frames per piece of audio", "N")
    seed: int | None = _option(None, "same seed, same speech", "N")
    normalise: bool = _option(True, "give the text to the model as it is", "no")
    day_first: bool = _option(False, "3/4/2026 is the third of April", "yes")
    lexicon: Mapping[str, str] | None = _option(None, "words and how they are read: a line each, a tab between", "FILE")
    lenient: bool = _option(False, "leave out what cannot be said, with a note", "yes")
    pause: float = _option(0.24, "seconds between sentences", "F")
    paragraph_pause: float = _option(0.64, "seconds between paragraphs", "F")
    guard: bool = _option(True, "do not say a sentence again that went wrong, nor cut it", "no")
    retries: int = _option(2, "how often a sentence that went wrong is said again", "N")
    precision: str | None = _option(
        None, "of what int8 and int4 weights multiply (the model's own)", "fast|adaptive|fine"
    )

    def __post_init__(self) -> None:
        for name in ("temperature", "top_k", "max_frames", "chunk_frames", "pause", "paragraph_pause", "retries"):
            if getattr(self, name) is None:
                raise UsageError(f"{name} must be given a number")
        checked = {name: _number(name, getattr(self, name), *limits) for name, limits in NUMBERS.items()}
        checked |= {name: whole(name, getattr(self, name), *limits) for name, limits in WHOLE.items()}
        for name in YES_OR_NO:
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} = {getattr(self, name)!r} must be True or False")
        if self.lexicon is not None and not isinstance(self.lexicon, Mapping):
            raise UsageError("lexicon must be a mapping: word -> how it is to be read")
        for name, value in checked.items():  # Python's own numbers: those of numpy may overflow later on
            object.__setattr__(self, name, value)
        if self.precision is not None and self.precision not in MODES:
            raise UsageError(f"precision = {self.precision!r:.80} must be one of {', '.join(MODES)}")
        if 0 < self.temperature < 1e-3:
            raise UsageError(f"temperature = {self.temperature!r} is too close to 0; top_k = 1 is greedy")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of all options, in the order in which the command line shows them."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Options by name; one that does not exist is an error that lists those that do."""
        if unknown := sorted(set(given) - set(cls.names())):
            raise UsageError(f"unknown options {unknown}; there are {', '.join(cls.names())}")
        return cls(**given)

    def seeded(self) -> Options:
        """The same with a seed: where none was given, one is drawn from the system."""
        if self.seed is not None:
            return self
        return dataclasses.replace(self, seed=int.from_bytes(os.urandom(4), "little"))


class OptionArgs(TypedDict, total=False):
    """The same fields as keywords (`**options: Unpack[OptionArgs]`): a type checker then finds `sead=1`."""

    temperature: float
    top_p: float | None
    top_k: int
    style_strength: float | None
    stop_threshold: float | None
    stop_patience: int | None
    min_gen_frames: int | None
    max_frames: int
    lookahead: int | None
    chunk_frames: int
    seed: int | None
    normalise: bool
    day_first: bool
    lexicon: Mapping[str, str] | None
    lenient: bool
    pause: float
    paragraph_pause: float
    guard: bool
    retries: int
    precision: str | None


def _number(name: str, value: Any, low: float, high: float) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = math.nan
    if not low <= number <= high:
        raise UsageError(f"{name} = {value!r:.80} must be a number from {low} to {high}")
    return number


def whole(name: str, value: Any, low: int, high: int | None = LARGEST) -> int | None:
    """Any kind of whole number in these limits as an int (None stays None), or UsageError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
        raise UsageError(f"{name} = {value!r} must be a whole number, at least {low}")
    if high is not None and int(value) > high:
        raise UsageError(f"{name} = {value!r} is too large: at most {high}")
    return int(value)


DEFAULTS = Options()
