"""Is it the same voice? Cosine of two speaker embeddings, by Resemblyzer (GE2E, Wan et al. 2018; weights inside).

Two recordings of one person give 0.8-0.95, of two people mostly below 0.75. Not comparable with the SIM of WavLM or
ECAPA in papers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sopro_np.evaluate.libraries import library
from sopro_np.hearing import resample

RATE = 16000
NAME = "Resemblyzer's voice encoder (GE2E), cosine"


class VoiceSimilarity:
    """Loads the network once (it needs torch, and seconds)."""

    def __init__(self) -> None:
        self._library: Any = library("resemblyzer", "speaker similarity")
        self._encoder = self._library.VoiceEncoder("cpu", verbose=False)

    def __call__(self, wav: np.ndarray, rate: int) -> np.ndarray | None:
        """wav (n,) -> unit vector (256,), or None where no speech is left once silence is cut out."""
        sound = resample(np.asarray(wav, np.float32), rate, RATE)
        if len(sound) < RATE // 10 or not np.abs(sound).max() > 1e-4:
            return None
        spoken = self._library.preprocess_wav(sound)
        return self._encoder.embed_utterance(spoken) if len(spoken) >= RATE // 10 else None


def similarity(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """Cosine; nan where there was nothing to hear."""
    if a is None or b is None:
        return float("nan")
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
