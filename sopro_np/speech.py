"""What was said: the audio of one text, the codes behind it, how it ended, and the seed that says it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sopro_np.errors import UsageError

_REMEDIES: dict[type, str] = {
    bytes: ": decode it, e.g. text.decode('utf-8')",
    list: ": speak them with synthesize_many, or join them",
    tuple: ": speak them with synthesize_many, or join them",
}


@dataclass(frozen=True, eq=False)
class Speech:
    """wav (samples,) float32 in [-1, 1]; codes (frames, codebooks) int64; finish_reason "stop", or "length" where
    max_frames ended it; seed: the one given, or the one that was drawn."""

    wav: np.ndarray
    codes: np.ndarray
    finish_reason: str
    seed: int

    @property
    def frames(self) -> int:
        """How many code frames were said; the waveform is as long."""
        return len(self.codes)


def check_text(text: Any) -> None:
    """UsageError for what cannot be said."""
    if not isinstance(text, str):
        remedy = _REMEDIES.get(type(text), "")
        raise UsageError(f"a text must be a str, not {type(text).__name__}{remedy}")
    if not text.strip():
        raise UsageError("the text is empty: there is nothing to say")
