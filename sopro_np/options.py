"""What a caller may choose for one utterance: one frozen record, the same everywhere, defaults and help included."""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypedDict

from sopro_np.errors import UsageError

STREAM_LOOKAHEAD = 16  # default of a stream whose model looks ahead; docs/STREAMING.md has the table

LARGEST = 2**31 - 1
NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 100), "top_p": (0, 1), "style_strength": (0, 100), "stop_threshold": (0, math.inf),
}  # fmt: skip
WHOLE: dict[str, tuple[int, int | None]] = {
    "top_k": (0, LARGEST), "stop_patience": (1, LARGEST), "min_gen_frames": (0, LARGEST), "max_frames": (1, LARGEST),
    "lookahead": (0, LARGEST), "chunk_frames": (1, LARGEST), "seed": (0, None),
}  # fmt: skip


def _option(default: Any, help: str, letter: str) -> Any:
    """A field with what the command line says of it. `letter`: F a number, N a whole one."""
    return field(default=default, metadata={"help": help, "letter": letter})


@dataclass(frozen=True)
class Options:
    """Defaults are upstream's; None means the model's own value.

    temperature, top_p, top_k: sampling (temperature 0 = not applied; top_k = 1 is greedy).
    style_strength: how strongly the speaker vector acts.
    stop_threshold, stop_patience: for models that stop by a probability (v1); without meaning for others.
    min_gen_frames: no end before that many frames. max_frames: the end at the latest (with an end
        code one frame later, as upstream).
    lookahead: frames a non-causal model waits for before it fixes a block; None: all of them (offline).
        Causal models wait for nothing, whatever it says.
    chunk_frames: frames per piece of audio. seed: None draws one from the system.
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

    def __post_init__(self) -> None:
        for name in ("temperature", "top_k", "max_frames", "chunk_frames"):
            if getattr(self, name) is None:
                raise UsageError(f"{name} must be given a number")
        checked = {name: _number(name, getattr(self, name), *limits) for name, limits in NUMBERS.items()}
        checked |= {name: whole(name, getattr(self, name), *limits) for name, limits in WHOLE.items()}
        for name, value in checked.items():  # Python's own numbers: those of numpy may overflow later on
            object.__setattr__(self, name, value)
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
        return self if self.seed is not None else dataclasses.replace(self, seed=secrets.randbits(32))


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


def stream_options(given: Mapping[str, Any], looks_ahead: bool) -> dict[str, Any]:
    """What a stream adds to the options that were given: a finite lookahead, where the model looks ahead."""
    return {"lookahead": STREAM_LOOKAHEAD, **given} if looks_ahead else dict(given)


def _number(name: str, value: Any, low: float, high: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise UsageError(f"{name} = {value!r} must be a number from {low} to {high}")
    return float(value)


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
