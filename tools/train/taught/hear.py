"""Stages `taught-hear` and `taught-encoder`: many speakers' speech with its frames' vectors, and an encoder of it.

Recordings are not in step with a codec's frames and come in every voice. So the teacher speaks at its own pace here,
its spectra and its pitch are moved before it makes a waveform of them, and speech begins anywhere in a frame.

work/hear (growing.py) holds audio.i16 (24 kHz) and vectors.f16 (WIDTH values a frame), which lag behind the audio: the
encoder sees the end of a frame's sounds before it names them.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from tools.train.encoder import EncoderTrainer
from tools.train.growing import Column, Growing, read_index
from tools.train.taught import hibari
from tools.train.taught.analysis import SUB, analyse, pitch_at
from tools.train.taught.features import WIDTH, parameters, vectors
from tools.train.taught.render import GAIN
from tools.train.taught.speakers import Speaker
from tools.train.taught.teach import Taught, from_start
from tools.train.vocoder import FRAME

LAG = hibari.HOP  # samples, 12.5 ms
LEVEL = 0.046  # RMS of what the teacher says; moved spectra are up to three times louder
PITCH = 0.45, 1.3  # factors between which speakers are drawn, evenly in cents
FORMANTS = 0.3, 0.06  # a speaker's formants move by this power of its pitch's factor, and by so many nepers besides
OWN = 0.25  # share of utterances in the teacher's own voice


def drawn(rng: np.random.Generator) -> Speaker:
    """Any speaker."""
    if rng.random() < OWN:
        return Speaker()
    pitch = float(np.exp(rng.uniform(*np.log(PITCH))))
    power, spread = FORMANTS
    return Speaker(pitch, float(np.clip(pitch**power * np.exp(rng.normal(0, spread)), 0.75, 1.2)))


def moved(said: hibari.Spoken, speaker: Speaker) -> hibari.Spoken:
    """What the teacher says with its pitch and the frequencies of its spectra times the speaker's factors."""
    bins = len(said.harmonic)
    rows = np.minimum(np.round(np.arange(bins) / speaker.formants).astype(int), bins - 1)
    spectra = {name: getattr(said, name)[rows] for name in ("harmonic", "turn", "noise", "free", "angle")}
    return said._replace(pitch=said.pitch * np.float32(speaker.pitch), **spectra)


def heard(said: hibari.Spoken, late: int) -> tuple[np.ndarray, np.ndarray]:
    """Waveform (FRAME T,) of speech after `late` samples of silence, a multiple of hibari.HOP; vectors (T, WIDTH)."""
    wave = np.pad(hibari.waveform(said), (late, 0))
    gain = LEVEL / max(1e-3, float(np.sqrt(np.mean(wave**2))))
    frames = -(-(len(wave) + LAG) // FRAME)
    tonal, other = (from_start(branch * gain, -late - LAG) for branch in hibari.branches(said))
    known = from_start(said.pitch, -(late + LAG) // hibari.HOP)
    pitch = pitch_at(known, hibari.HOP, frames * SUB, FRAME / SUB)
    found = Taught(*analyse(tonal, other, pitch, FRAME / SUB), pitch, said.symbols, said.durations)
    return np.pad(wave * gain, (0, frames * FRAME - len(wave))), vectors(parameters(found))


def make(cfg: SimpleNamespace, work: Path) -> None:
    """Speak the first texts, each as another speaker, going on where an interruption stopped."""
    texts, teacher = read_index(work / "texts"), hibari.Hibari()
    columns = Column("audio.i16", np.int16, FRAME), Column("vectors.f16", np.float16, WIDTH)
    with Growing(work / "hear", "frames", *columns) as files:
        for number in range(files.count, min(cfg.codec.rendered, len(texts))):
            rng, phonemes = np.random.default_rng([cfg.seed, 4, number]), teacher.phonemes(texts[number]["text"])
            if not phonemes:
                files.add({"number": number, "frames": 0}, *(np.zeros(0) for _ in columns))
                continue
            speaker, late = drawn(rng), int(rng.integers(FRAME // hibari.HOP)) * hibari.HOP
            wave, found = heard(moved(teacher.say(phonemes), speaker), late)
            record = {"number": number, "frames": len(found), "pitch": speaker.pitch, "formants": speaker.formants}
            files.add(record, (wave * (GAIN * 32767)).clip(-32768, 32767), found)


class Crop(NamedTuple):
    """original (n,) at 24 kHz, vectors (n / FRAME, WIDTH), whether it begins with its utterance."""

    original: np.ndarray
    vectors: np.ndarray
    begins: bool


class Hearings:
    """The folder for reading; `train` and `validation` are lists of positions in it."""

    def __init__(self, work: Path, validation_every: int) -> None:
        folder = work / "hear"
        self.entries = read_index(folder)
        frames = self.entries[-1]["start"] + self.entries[-1]["frames"]
        self.audio = np.memmap(folder / "audio.i16", np.int16, "r")
        self.vectors = np.memmap(folder / "vectors.f16", np.float16, "r")[: frames * WIDTH].reshape(frames, WIDTH)
        said = [i for i, e in enumerate(self.entries) if e["frames"]]
        self.train = [i for i in said if i % validation_every]
        self.validation = [i for i in said if i % validation_every == 0]

    def draw(self, positions: list[int], frames: int, rng: np.random.Generator) -> Crop:
        """A random crop; every fourth begins with its utterance. Beyond an end there is silence."""
        entry = self.entries[positions[rng.integers(len(positions))]]
        spare = entry["frames"] - frames
        first = 0 if spare <= 0 or rng.random() < 0.25 else int(rng.integers(spare + 1))
        stop = min(first + frames, entry["frames"])
        rows = np.minimum(np.arange(first, first + frames), entry["frames"] - 1) + entry["start"]
        wave = self.audio[(entry["start"] + first) * FRAME : (entry["start"] + stop) * FRAME].astype(np.float32) / 32768
        wave = np.pad(wave, (0, (frames - (stop - first)) * FRAME))
        return Crop(wave, self.vectors[rows].astype(np.float32), first == 0)


def train(cfg: SimpleNamespace, work: Path) -> None:
    """Train to cfg.encoder.steps; writes weights.pt into work/encoder."""
    torch.set_num_threads(cfg.codec.threads)
    EncoderTrainer(cfg, work, Hearings(work, cfg.data.validation_every)).run()
