"""Stage `evaluate`: word error rates of held-out sentences, as flite speaks them, after the codec, and as synthesised.

The codec is computed by transformers from the saved folder, as anyone else would; speech is synthesised by this
project's engine from a converted file. Figures are added to work/evaluation.json; the sources' are measured once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import MimiModel

from sopro_np.evaluate import pitch
from sopro_np.evaluate.world import pitch_track
from tools.train.asr import RECOGNISERS, word_error_rate
from tools.train.crops import RATE, gain, shifted
from tools.train.flite import speak
from tools.train.mimi import load_model
from tools.train.sentences import held_out

Speaker = Callable[[str, str, float], np.ndarray]  # (text, voice, shift) -> waveform (n,) at 24 kHz
REFERENCE = "the rainbow is a division of white light into many beautiful colours."  # in no training text either


def source(text: str, voice: str, shift: float) -> np.ndarray:
    """Flite's speech at 24 kHz, as loud as in training, a whole number of frames, the last of them silent."""
    wave = shifted(speak(text, voice).samples.astype(np.float32) / 32768, shift)
    wave = wave * gain(wave)
    return np.pad(wave, (0, -len(wave) % 1920 + 1920)).astype(np.float32)


def resynthesis(model: MimiModel, codebooks: int) -> Speaker:
    """Flite's speech encoded and decoded again with the first codebooks."""

    @torch.inference_mode()
    def speaker(text: str, voice: str, shift: float) -> np.ndarray:
        wave = torch.from_numpy(source(text, voice, shift))[None, None]
        codes = model.encode(wave, num_quantizers=codebooks).audio_codes
        return model.decode(codes).audio_values[0, 0].numpy()

    return speaker


def synthesis(path: str, longest: int = 100) -> Speaker:
    """The engine's speech with flite's as the reference; an utterance of `longest` frames has failed to stop."""
    import sopro_np

    tts = sopro_np.load(path)
    voices: dict[tuple[str, float], sopro_np.Voice] = {}

    def speaker(text: str, voice: str, shift: float) -> np.ndarray:
        if (voice, shift) not in voices:
            voices[voice, shift] = tts.voice(source(REFERENCE, voice, shift))
        wave = tts.synthesize(text, voice=voices[voice, shift], max_frames=longest, seed=1)
        if len(wave) >= longest * 1920:
            print(f"evaluate: no end within {longest} frames: {text}", flush=True)
        return wave

    return speaker


def speakers(cfg: SimpleNamespace, work: Path) -> Iterator[tuple[str, Speaker]]:
    """What is to be measured, with its name."""
    yield "source", source
    folder = work / "codec" / "mimi"
    if folder.exists():
        model = load_model(folder).eval()
        for books in cfg.evaluate.codebooks or [model.config.num_quantizers]:
            yield f"codec{books}", resynthesis(model, books)
    if cfg.evaluate.model:
        yield "speech", synthesis(cfg.evaluate.model)


def evaluate(cfg: SimpleNamespace, work: Path) -> None:
    """Print a line per voice and condition; add to work/evaluation.json."""
    torch.set_num_threads(cfg.codec.threads)
    report = work / "evaluation.json"
    known = json.loads(report.read_text()) if report.exists() else {}
    texts = held_out()[: cfg.evaluate.sentences]
    recognise = {name: RECOGNISERS[name]() for name in cfg.evaluate.recognisers}
    for condition, speaker in speakers(cfg, work):
        for voice, shift in ((v, s) for v in cfg.evaluate.voices for s in cfg.evaluate.shifts):
            key = f"{condition} {voice} {shift:g} {len(texts)}"
            if condition != "source" or key not in known or set(known[key]) < set(recognise):
                waves = [speaker(text, voice, shift) for text in texts]
                known[key] = {
                    n: word_error_rate([(t, f(w, RATE)) for t, w in zip(texts, waves)]) for n, f in recognise.items()
                }
                known[key]["pitch"] = float(np.nanmedian([pitch.median(pitch_track(w, RATE)) for w in waves]))
                report.write_text(json.dumps(known, indent=1))
            figures = " ".join(f"{n} {v:.3f}" for n, v in known[key].items())
            print(f"{key} sentences: {figures}", flush=True)
