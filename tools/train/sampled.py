"""Stage `sample`: what a model says of itself, as codes. Nobody's data are needed to teach a smaller model with them.

The engine draws codes with a converted file (sample.model), in the voices that fit it, of the grammar's sentences.
work/sampled (growing.py) holds codes.u16 with a row for every frame, and voices.npz, the codes of the references.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from sopro_np.engine import open_model
from sopro_np.locate import EMBEDDED
from sopro_np.text.normalise import normalise
from tools.train.growing import Column, Growing, read_index
from tools.train.sentences import sentence


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Go on where an interruption stopped; another model or other voices make the folder anew."""
    asked = cfg.sample
    path = Path(asked.model or EMBEDDED)
    tts = open_model(path)
    names = asked.voices or tts.voices()
    if not names:
        raise SystemExit("sample.voices: there is no saved voice for this model; make one with `sopro-np voice make`")
    voices = {str(i): tts.load_voice(name) for i, name in enumerate(names)}
    settings = asked.seed, names, asked.word_lists, asked.word_list_share, asked.longest
    source = hashlib.sha256(path.read_bytes() + repr(settings).encode()).hexdigest()
    columns = Column("codes.u16", np.uint16, tts.model.config.codebooks)
    with Growing(work / "sampled", "frames", columns, source=source) as files:
        np.savez(work / "sampled" / "voices.npz", **{name: voice.codes for name, voice in voices.items()})
        for number in range(files.count, asked.utterances):
            name, text = str(number % len(names)), normalise(sentence(number, asked)).text
            codes = tts.codes(text, voices[name], seed=asked.seed + number, max_frames=asked.most_frames)
            ids = tts.tokenizer.encode(text).tolist()
            files.add({"text": text, "ids": ids, "voice": name, "frames": len(codes)}, codes)


class Sampled:
    """The folder for reading; `train` and `validation` are lists of numbers of utterances that say something."""

    def __init__(self, work: Path, validation_every: int) -> None:
        folder = work / "sampled"
        self.entries = read_index(folder)
        if not self.entries:
            raise SystemExit(f"{folder}: nothing there; run `python -m tools.train sample` first")
        rows = np.memmap(folder / "codes.u16", np.uint16, "r")
        total = self.entries[-1]["start"] + self.entries[-1]["frames"]
        self.rows = rows.reshape(total, len(rows) // total)
        with np.load(folder / "voices.npz") as voices:
            self.voices = {name: torch.from_numpy(voices[name].astype(np.int64)) for name in voices}
        said = [i for i, entry in enumerate(self.entries) if entry["frames"]]
        self.train = [i for i in said if i % validation_every]
        self.validation = [i for i in said if i % validation_every == 0]

    def codes(self, number: int) -> torch.Tensor:
        """(T, Q) int64."""
        entry = self.entries[number]
        return torch.from_numpy(self.rows[entry["start"] : entry["start"] + entry["frames"]].astype(np.int64))

    def ids(self, number: int) -> torch.Tensor:
        """(L,) tokens of its text."""
        return torch.tensor(self.entries[number]["ids"])

    def reference(self, number: int, frames: int, rng: np.random.Generator) -> torch.Tensor:
        """(frames, Q) of the voice that says it, from anywhere; a shorter voice begins again."""
        voice = self.voices[self.entries[number]["voice"]]
        return voice[(rng.integers(len(voice)) + torch.arange(frames)) % len(voice)]

    def crop(self, numbers: list[int], frames: int, rng: np.random.Generator) -> torch.Tensor:
        """(frames, Q) of one of these utterances; every fourth begins with it. Beyond an end its last frame goes on."""
        codes = self.codes(numbers[rng.integers(len(numbers))])
        spare = len(codes) - frames
        first = 0 if spare <= 0 or rng.random() < 0.25 else int(rng.integers(spare + 1))
        return codes[(first + torch.arange(frames)).clamp_max(len(codes) - 1)]
