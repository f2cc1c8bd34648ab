"""Scripts for a study, and what a changed model makes of them: means of the fidelity measures over all scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sopro_np.audio import read_reference
from sopro_np.convert.recipe import BUILT_IN
from sopro_np.engine import Sopro
from sopro_np.errors import UsageError
from sopro_np.evaluate import fidelity
from sopro_np.evaluate.fidelity import ForcedInputs, Outputs
from sopro_np.evaluate.recogniser import PocketSphinx, Recogniser
from sopro_np.evaluate.signals import mean_db
from sopro_np.evaluate.texts import built_in
from sopro_np.evaluate.words import errors
from sopro_np.evaluate.world import Analysis, analyse
from sopro_np.options import Options
from sopro_np.requantise.weights import load_as

TRIES = 5  # seeds, until the model says something


@dataclass
class Bench:
    """The fp32 model's scripts and answers, against which every other one is held."""

    scripts: list[ForcedInputs]
    answers: list[Outputs]
    rate: int
    analyses: list[tuple[Analysis, Analysis]]  # of wav and free_running_wav
    recognise: Recogniser | None
    heard: dict[bytes, str] = field(default_factory=dict)  # by the samples: most changes do not reach the waveform

    def part(self, few: slice) -> Bench:
        """The same with fewer scripts: for what is computed slowly."""
        return Bench(self.scripts[few], self.answers[few], self.rate, self.analyses[few], self.recognise, self.heard)

    @property
    def frames(self) -> int:
        return sum(len(s.codes) for s in self.scripts)

    def measure(self, tts: Sopro) -> dict[str, float]:
        """Means over frames (percentages) or scripts (dB); WER over all words of the free-running waveforms."""
        return self.compare([fidelity.run_forced(tts, script) for script in self.scripts])

    def compare(self, answers: Sequence[Outputs]) -> dict[str, float]:
        rows = []
        for base, other, analysed in zip(self.answers, answers, self.analyses, strict=True):
            rows.append(fidelity.compare(base, other) | fidelity.mcds(analysed, other, self.rate))
        weights = np.array([len(s.codes) for s in self.scripts], np.float64)
        means = {}
        for name in rows[0]:
            column = np.array([row[name] for row in rows])
            means[name] = (
                mean_db(column, weights) if name.endswith("_db") else float(np.average(column, weights=weights))
            )
        if self.recognise:
            means["wer"] = self.wer(answers)
        return means

    def wer(self, answers: Sequence[Outputs]) -> float:
        """Percent, of what each model decodes from its own codes behind the forced first codebook."""
        wrong = words = 0
        for script, answer in zip(self.scripts, answers, strict=True):
            e = errors(script.text, self._hear(answer.free_running_wav))
            wrong, words = wrong + e.word_errors, words + e.words
        return 100 * wrong / max(1, words)

    def _hear(self, wav: np.ndarray) -> str:
        assert self.recognise
        key = wav.tobytes()
        if key not in self.heard:
            self.heard[key] = self.recognise(wav, self.rate)
        return self.heard[key]


def write_scripts(tts: Sopro, texts: Sequence[str], wavs: Sequence[np.ndarray], max_frames: int) -> list[ForcedInputs]:
    """One script per text, the recordings taking turns; a seed under which nothing is said is passed over."""
    scripts = []
    for i, text in enumerate(texts):
        for seed in range(TRIES):
            try:
                scripts.append(
                    fidelity.prepare(tts, text, wavs[i % len(wavs)], None, Options(seed=seed, max_frames=max_frames))
                )
                break
            except UsageError:
                if seed == TRIES - 1:
                    raise
    return scripts


def prepare(tts: Sopro, scripts: list[ForcedInputs], asr: bool) -> Bench:
    """The reference's answers, their analyses, and the recogniser if one is wanted."""
    answers = [fidelity.run_forced(tts, script) for script in scripts]
    analyses = [(analyse(a.wav, tts.sample_rate), analyse(a.free_running_wav, tts.sample_rate)) for a in answers]
    return Bench(scripts, answers, tts.sample_rate, analyses, PocketSphinx() if asr else None)


def bench_of(model: Path, refs: Sequence[str], count: int, most_frames: int) -> Bench:
    """Of an fp32 file: the first of the built-in texts, said in the voices of these recordings in turns; no ASR."""
    tts = load_as(model, BUILT_IN["fp32"], threads=1)
    config = tts.model.config
    most = min(config.reference_seconds, 12.0)
    wavs = [read_reference(ref, tts.sample_rate, most, config.frame_rate) for ref in refs]
    texts = [text.text for text in built_in()][:count]
    return prepare(tts, write_scripts(tts, texts, wavs, most_frames), False)
