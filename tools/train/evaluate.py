"""Stage `evaluate`: word error rates of held-out sentences at every step of the way from flite's speech to our own.

`source` is flite's speech; `vocoder` the same parameters as the codec is taught to say them; `codes` the codes of these
parameters, said by the vocoder; `decoder` the same codes, said by the decoder; `codec` the source encoded and decoded;
`speech` synthesised from text.

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
from tools.train.codebooks import Codebooks
from tools.train.data import aligned
from tools.train.embed import REFERENCE
from tools.train.features import heard, vectors
from tools.train.flite import RATE as SOURCE_RATE
from tools.train.flite import speak
from tools.train.mimi import load_model
from tools.train.render import frames_of, gain, parameters, shifted
from tools.train.sentences import held_out
from tools.train.vocoder import RATE, speech

Speaker = Callable[[str, str, float], np.ndarray]  # (text, voice, shift) -> waveform (n,) at 24 kHz


def source(text: str, voice: str, shift: float) -> np.ndarray:
    """Flite's speech at 24 kHz, as loud as in training, a whole number of frames, the last of them silent."""
    wave = shifted(speak(text, voice).samples.astype(np.float32) / 32768, shift)
    wave = wave * gain(wave)
    return np.pad(wave, (0, -len(wave) % 1920 + 1920)).astype(np.float32)


def rendered(lag: float, books: Codebooks | None, model: MimiModel | None = None) -> Speaker:
    """The vocoder's rendering of flite's parameters; with codebooks, of the codes for them; or a codec's of these."""

    @torch.inference_mode()
    def speaker(text: str, voice: str, shift: float) -> np.ndarray:
        original = aligned(speak(text, voice))
        frames = frames_of(len(original.samples) / SOURCE_RATE / shift + lag)
        found = parameters(original.samples / 32768, original.track, shift, lag, frames)
        if books is None:
            return speech(found.spectrum(shift), found.voiced, found.strengths, found.turns, shift)
        x = books.components(torch.from_numpy(vectors(found, shift)))
        codes = books.codes(x)[None]
        if model is not None:
            return model.decode(codes.mT).audio_values[0, 0].numpy()
        rows = books.rows(codes)[1][0]
        return speech(*heard((rows @ books.basis.T + books.mean).numpy()), 1.0)

    return speaker


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
    yield "vocoder", rendered(cfg.codec.lag, None)
    folder = work / "codec" / "mimi"
    if (work / "codebooks.npz").exists():
        books = Codebooks.load(work)
        yield "codes", rendered(cfg.codec.lag, books)
    if folder.exists():
        model = load_model(folder).eval()
        yield "decoder", rendered(cfg.codec.lag, books, model)
        for count in cfg.evaluate.codebooks or [model.config.num_quantizers]:
            yield f"codec{count}", resynthesis(model, count)
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
            if condition not in ("source", "vocoder") or key not in known or set(known[key]) < set(recognise):
                waves = [speaker(text, voice, shift) for text in texts]
                known[key] = {
                    n: word_error_rate([(t, f(w, RATE)) for t, w in zip(texts, waves)]) for n, f in recognise.items()
                }
                known[key]["pitch"] = float(np.nanmedian([pitch.median(pitch_track(w, RATE)) for w in waves]))
                report.write_text(json.dumps(known, indent=1))
            figures = " ".join(f"{n} {v:.3f}" for n, v in known[key].items())
            print(f"{key} sentences: {figures}", flush=True)
