"""Speech -> text, by an ASR whose model comes inside its package: PocketSphinx, US English.

It is far behind today's large recognisers: compare its error rates with each other, and with those that it makes on
recordings of people, not with rates from elsewhere.
"""

from __future__ import annotations

import numpy as np

from sopro_np.evaluate.libraries import library
from sopro_np.hearing import resample
from sopro_np.wav import pcm16

RATE = 16000
NAME = "pocketsphinx, en-us model and language model of the package"


class Recogniser:
    """Loads the model once (0.3 s); call it with any waveform."""

    def __init__(self) -> None:
        self._decoder = library("pocketsphinx", "speech recognition").Decoder(samprate=RATE, loglevel="FATAL")

    def __call__(self, wav: np.ndarray, rate: int) -> str:
        """wav (n,) in [-1, 1] -> what was heard, lower case; the same for the same samples, whatever came before."""
        if len(wav) < rate // 10:
            return ""
        decoder = self._decoder
        decoder.reinit_feat()  # it adapts to what it hears: forget that
        sound = resample(np.clip(wav, -1, 1).astype(np.float32), rate, RATE)
        decoder.start_utt()
        decoder.process_raw(pcm16(sound), no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr if found else ""
