"""Stage `evaluate`: word error rates of held-out sentences, spoken by flite and after the codec.

The codec is computed by transformers from the saved folder, as anyone else would. Results go to work/evaluation.json;
the sources' are kept there and not measured again.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soxr
import torch
from transformers import MimiModel

from tools.train.asr import RATE as ASR_RATE
from tools.train.asr import recognizer, word_error_rate
from tools.train.crops import LEVEL, RATE, shifted
from tools.train.flite import speak
from tools.train.mimi import load_model
from tools.train.sentences import held_out


def source(text: str, voice: str, shift: float) -> np.ndarray:
    """A held-out sentence at 24 kHz, as loud as the training speech, and a whole number of frames long."""
    wave = shifted(speak(text, voice).samples.astype(np.float32) / 32768, shift)
    wave = wave * (LEVEL / np.sqrt(np.mean(wave**2)))
    return np.pad(wave, (0, -len(wave) % 1920)).astype(np.float32)


@torch.inference_mode()
def resynthesis(model: MimiModel, wave: np.ndarray, codebooks: int) -> np.ndarray:
    """Encoded and decoded again with the first codebooks, (n,) -> (n,)."""
    codes = model.encode(torch.from_numpy(wave)[None, None], num_quantizers=codebooks).audio_codes
    return model.decode(codes).audio_values[0, 0].numpy()


def evaluate(cfg: SimpleNamespace, work: Path) -> None:
    """Print a line per voice and condition; add to work/evaluation.json."""
    report = work / "evaluation.json"
    known = json.loads(report.read_text()) if report.exists() else {}
    folder = work / "codec" / "mimi"
    model = load_model(folder).eval() if folder.exists() else None
    books = cfg.codec.mimi["num_quantizers"]
    texts = held_out()[: cfg.evaluate.sentences]
    for name in cfg.evaluate.recognizers:
        recognise = recognizer(name)
        for voice, shift in ((v, s) for v in cfg.evaluate.voices for s in cfg.evaluate.shifts):
            for condition in ("source", *(f"codec{n}" for n in cfg.evaluate.codebooks or [books] if model)):
                key = f"{name} {voice} {shift} {condition} {len(texts)}"
                if condition != "source" or key not in known:
                    pairs = []
                    for text in texts:
                        wave = source(text, voice, shift)
                        if condition != "source":
                            wave = resynthesis(model, wave, int(condition[5:]))
                        pairs.append((text, recognise(soxr.resample(wave, RATE, ASR_RATE))))
                    known[key] = word_error_rate(pairs)
                print(f"{key} sentences: WER {known[key]:.3f}", flush=True)
                report.write_text(json.dumps(known, indent=1))
