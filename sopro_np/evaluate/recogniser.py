"""Speech -> text: what every recogniser can do, and the one whose model comes inside its package, PocketSphinx.

PocketSphinx is far behind Whisper (whisper.py): compare its error rates with each other, and with those that it makes
on recordings of people, not with rates from elsewhere. It guesses less, though, and asks for no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import numpy as np

from sopro_np.evaluate.libraries import library
from sopro_np.hearing import SILENCE_PEAK, resample
from sopro_np.wav import pcm16

RATE = 16000
AROUND = 0.3  # seconds of silence before and after: recognisers were taught with some
LEAST = 0.1  # seconds; less is no word
Facts = Mapping[str, str | int | float]
SILENCE = f"{AROUND:g} s of silence before and after every utterance"


class Recogniser(Protocol):
    """Anything that understands speech. `facts`: what it is, for the record (strings and numbers)."""

    facts: Facts

    def __call__(self, wav: np.ndarray, rate: int) -> str:
        """wav (n,) in [-1, 1] -> what was heard; the same for the same samples, whatever came before."""
        ...


def surrounded(wav: np.ndarray, rate: int) -> np.ndarray | None:
    """wav (n,) -> float32 at RATE with silence around it; None: silence, or too short to be a word."""
    if len(wav) < LEAST * rate or not np.abs(wav).max() > SILENCE_PEAK:
        return None
    sound = resample(np.clip(wav, -1, 1).astype(np.float32), rate, RATE)
    return np.pad(sound, round(AROUND * RATE))


def released(package: str) -> str:
    """Name and version of an installed package."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


class PocketSphinx:
    """Loads the model once (0.3 s); call it with any waveform. US English."""

    name = "pocketsphinx"

    def __init__(self) -> None:
        self._decoder = library("pocketsphinx", "speech recognition").Decoder(samprate=RATE, loglevel="FATAL")
        self.facts: Facts = {
            "recogniser": released("pocketsphinx"),
            "weights": "en-us model and language model of the package",
        }

    def __call__(self, wav: np.ndarray, rate: int) -> str:
        """wav (n,) in [-1, 1] -> what was heard, lower case."""
        sound = surrounded(wav, rate)
        if sound is None:
            return ""
        decoder = self._decoder
        decoder.reinit_feat()  # it adapts to what it hears: forget that
        decoder.start_utt()
        decoder.process_raw(pcm16(sound), no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr if found else ""
