"""What a caller may choose for one utterance: one frozen record, the same everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from sopro_np.errors import UsageError


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

    temperature: float = 1.05
    top_p: float | None = 0.9
    top_k: int = 50
    style_strength: float | None = None
    stop_threshold: float | None = None
    stop_patience: int | None = None
    min_gen_frames: int | None = None
    max_frames: int = 400
    lookahead: int | None = None
    chunk_frames: int = 16
    seed: int | None = None

    def __post_init__(self) -> None:
        _number("temperature", self.temperature, 0, 100)
        if 0 < self.temperature < 1e-3:
            raise UsageError(f"temperature = {self.temperature!r} is too close to 0; top_k = 1 is greedy")
        _number("top_p", self.top_p, 0, 1)
        _number("style_strength", self.style_strength, 0, 100)
        _number("stop_threshold", self.stop_threshold, 0, math.inf)
        _whole("top_k", self.top_k, 0)
        _whole("stop_patience", self.stop_patience, 1)
        _whole("min_gen_frames", self.min_gen_frames, 0)
        _whole("max_frames", self.max_frames, 1)
        _whole("lookahead", self.lookahead, 0)
        _whole("chunk_frames", self.chunk_frames, 1)
        _whole("seed", self.seed, 0)
        for name in ("temperature", "top_k", "max_frames", "chunk_frames"):
            if getattr(self, name) is None:
                raise UsageError(f"{name} must be given a number")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))


def _number(name: str, value: Any, low: float, high: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise UsageError(f"{name} = {value!r} must be a number from {low} to {high}")


def _whole(name: str, value: Any, low: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise UsageError(f"{name} = {value!r} must be a whole number, at least {low}")
