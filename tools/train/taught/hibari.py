"""The teacher: hibari (PyPI: hibari-tts, Apache-2.0), a small network from phonemes to spectra, voice `heart`.

Every 12.5 ms it names a harmonic spectrum to filter pulses with, a spectrum of noise, a spectrum with phases of its
own, and the pitch. Its graph is given one output more: the durations it decides on, so that what is spoken when is
known exactly. The same phonemes always give the same numbers.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import numpy as np

RATE, HOP = 24000, 300
STEP = 600  # samples that a duration counts in, 25 ms
DURATIONS = "/Cast_32_output_0"  # their name in the graph of 0.2.1
LOUDEST = 7.0  # log magnitude at which hibari cuts
LONGEST = 400  # phonemes that are said at once


class Spoken(NamedTuple):
    """Spectra (601, F) float32 in steps of HOP: log magnitudes `harmonic`, `noise`, `free`; `turn`, the harmonic one's
    phase / pi before tanh; `angle`, the free one's phase.

    pitch (F,) in Hz; symbols, a character for every number that the network was given, "|" for the silences around;
    durations (n,) of these, in steps of 25 ms.
    """

    harmonic: np.ndarray
    turn: np.ndarray
    noise: np.ndarray
    free: np.ndarray
    angle: np.ndarray
    pitch: np.ndarray
    symbols: str
    durations: np.ndarray


def available() -> bool:
    """Whether the packages are there."""
    return all(importlib.util.find_spec(name) for name in ("hibari", "onnx", "onnxruntime"))


class Hibari:
    """One thread; text -> what the network says of it."""

    def __init__(self) -> None:
        import hibari.tts
        import onnx
        import onnxruntime

        self._text = hibari.Hibari(threads=1)  # for its phonemes
        model = onnx.load(f"{hibari.tts.ASSETS}/hibari.onnx")
        model.graph.output.append(onnx.helper.make_tensor_value_info(DURATIONS, onnx.TensorProto.INT64, [None]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options)

    def phonemes(self, text: str) -> str:
        """Of one sentence; "" where hibari would say it in pieces or not at all."""
        found = self._text.phonemize(text)
        return found[0] if len(found) == 1 and len(found[0]) <= LONGEST else ""

    def say(self, phonemes: str, speed: float = 1.0) -> Spoken:
        """Phonemes at a pace; 1 is the voice's own."""
        symbols = "".join(c for c in phonemes if c in self._text.vocab)
        given = {"ids": np.asarray([self._text.ids(symbols)], np.int64), "speed": np.asarray([speed], np.float32)}
        *spectra, durations = self._session.run(None, given)
        return Spoken(*(s[0] for s in spectra), f"|{symbols}|", durations)


def branches(said: Spoken) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms (HOP F,) of what is tonal and of what is not, the noise's power added to that of the free spectrum."""
    from hibari import dsp

    tonal = np.exp(np.minimum(said.harmonic, LOUDEST)) * np.exp(1j * np.pi * np.tanh(said.turn))
    tonal *= dsp.stft(dsp.pulses(said.pitch), said.harmonic.shape[1])
    power = np.exp(2 * np.minimum(said.free, LOUDEST)) + 2 * np.exp(2 * np.minimum(said.noise, LOUDEST))
    other = np.sqrt(power) * np.exp(1j * said.angle)
    return dsp.ola(tonal.astype(np.complex64)), dsp.ola(other.astype(np.complex64))


def waveform(said: Spoken, seed: int = 0) -> np.ndarray:
    """(HOP F,) as hibari itself says it."""
    from hibari import dsp

    rng = np.random.default_rng(seed)
    return dsp.synth(said.harmonic, said.turn, said.noise, said.free, said.angle, said.pitch, rng)
