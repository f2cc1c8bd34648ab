"""Speech -> text by Whisper (Radford et al. 2022, arXiv 2212.04356), run by faster-whisper from a folder on disk.

Greedy or sampled, Whisper may answer differently twice: here it searches a beam at temperature 0, never falls back to
a higher one, knows nothing of what it heard before, and computes on one thread. Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from sopro_np.errors import UsageError
from sopro_np.evaluate.libraries import library
from sopro_np.evaluate.recogniser import RATE, Facts, released, surrounded

BEAM = 5
WEIGHTS = "model.bin"
BESIDE = ("config.json", "tokenizer.json")  # without the latter faster-whisper would ask the network for one
VOCABULARY = ("vocabulary.json", "vocabulary.txt")
SPECIFICATION = b"WhisperSpec"  # stands at the beginning of the weights, after a version and a length
HEAD = 64  # bytes
WANTED = (
    f"a folder with Whisper in CTranslate2's format: {WEIGHTS}, {', '.join(BESIDE)}, {VOCABULARY[1]} "
    "(docs/EVALUATION.md: Judges)"
)


def check_folder(folder: Path) -> None:
    """UsageError, with a remedy, where there is no model to load."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; wanted: {WANTED}")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; wanted: {WANTED}")
    try:
        names = sorted(p.name for p in folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be looked into: {error.strerror}") from None
    if WEIGHTS not in names:
        if parts := [n for n in names if n.startswith(f"{WEIGHTS}.part")]:
            where = f"in parts: `cat {' '.join(str(folder / p) for p in parts)} > {folder / WEIGHTS}` joins them"
            raise UsageError(f"{folder} has {WEIGHTS} {where} (those of another package belong into it, too)")
        if any(n.endswith((".safetensors", ".pt")) or n == "pytorch_model.bin" for n in names):
            raise UsageError(f"{folder} holds a model of another format: ct2-transformers-converter makes {WANTED}")
        raise UsageError(f"{folder} {'has no ' + WEIGHTS if names else 'is empty'}; wanted: {WANTED}")
    missing = [n for n in BESIDE if n not in names]
    missing += [] if set(VOCABULARY) & set(names) else [VOCABULARY[1]]
    if missing:
        raise UsageError(f"{folder} lacks {', '.join(missing)}, which come with {WEIGHTS}; wanted: {WANTED}")
    try:
        with (folder / WEIGHTS).open("rb") as f:
            head = f.read(HEAD)
    except OSError as error:
        raise UsageError(f"{folder / WEIGHTS} cannot be read: {error.strerror}") from None
    if SPECIFICATION not in head:
        raise UsageError(f"{folder / WEIGHTS} is no Whisper model; wanted: {WANTED}")


class Whisper:
    """Loads the model once; call it with any waveform. English; multilingual models are told so."""

    def __init__(self, folder: str | Path) -> None:
        """UsageError: no model in the folder, or none that can be loaded. MissingLibrary: no faster-whisper."""
        folder = Path(folder)
        self.name = os.path.basename(os.path.abspath(folder))  # as it was named, also by a link
        check_folder(folder)
        whisper = library("faster_whisper", f"Whisper in {folder}")
        try:
            self._model = whisper.WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
            )
            self._heard(np.zeros(RATE, np.float32))  # what does not fit together is found out before anybody speaks
        except Exception as error:  # the libraries have no class of their own for a damaged file
            raise UsageError(f"{folder} holds a model that does not work ({error}); wanted: {WANTED}") from None
        with (folder / WEIGHTS).open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        self.facts: Facts = {
            "recogniser": f"Whisper by {released('faster-whisper')}, {released('ctranslate2')}, int8",
            "weights": str(folder / WEIGHTS),
            "sha256": digest,
            "beam": BEAM,
            "temperature": 0.0,
        }

    def __call__(self, wav: np.ndarray, rate: int) -> str:
        """wav (n,) in [-1, 1] -> what was heard, as Whisper writes it."""
        sound = surrounded(wav, rate)
        return "" if sound is None else self._heard(sound)

    def _heard(self, sound: np.ndarray) -> str:
        segments, _ = self._model.transcribe(
            sound, language="en", beam_size=BEAM, temperature=0.0, condition_on_previous_text=False, vad_filter=False
        )
        return " ".join(text for s in segments if (text := s.text.strip()))
