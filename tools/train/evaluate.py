"""Stage `evaluate`: word error rates of held-out sentences at every step of the way from flite's speech to our own.

`source` is flite's speech; `vocoder` the same parameters as the codec is taught to say them; `codes` the codes of these
parameters, said by the vocoder; `decoder` the same codes, said by the decoder; `codec` the source encoded and decoded;
`speech` synthesised from text.

Opinions (evaluate.opinions) are means of estimated scores.

The codec is computed by transformers from the saved folder, as anyone else would; speech is synthesised by this
project's engine from a converted file. Figures are added to work/evaluation.json; the sources' are measured once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import MimiModel

from sopro_np.evaluate import pitch
from sopro_np.evaluate.opinions import OPINIONS
from sopro_np.evaluate.world import pitch_track
from sopro_np.locate import VOICE_SUFFIX
from tools.train.asr import recogniser, word_error_rate
from tools.train.codebooks import Codebooks
from tools.train.data import aligned
from tools.train.embed import REFERENCE
from tools.train.features import heard, vectors
from tools.train.flite import RATE as SOURCE_RATE
from tools.train.flite import speak
from tools.train.mimi import load_model
from tools.train.render import frames_of, gain, parameters, shifted
from tools.train.sentences import held_out
from tools.train.vocoder import FRAME, RATE, speech

Speaker = Callable[[str, str, float], np.ndarray]  # (text, voice, shift) -> waveform (n,) at 24 kHz


def source(text: str, voice: str, shift: float) -> np.ndarray:
    """Flite's speech at 24 kHz, as loud as in training, a whole number of frames, the last of them silent."""
    wave = shifted(speak(text, voice).samples.astype(np.float32) / 32768, shift)
    wave = wave * gain(wave)
    return np.pad(wave, (0, -len(wave) % FRAME + FRAME)).astype(np.float32)


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


def synthesis(cfg: SimpleNamespace, longest: int = 100) -> Speaker:
    """The engine's speech, in the voice saved beside the model where there is one, else after flite's recording.

    An utterance of `longest` frames has failed to stop.
    """
    import sopro_np

    tts, saved = sopro_np.load(cfg.evaluate.model), {tuple(v): name for name, v in cfg.embed.voices.items()}
    voices: dict[tuple[str, float], sopro_np.Voice] = {}

    def speaker(text: str, voice: str, shift: float) -> np.ndarray:
        if (voice, shift) not in voices:
            file = tts.path.with_name(f"{saved.get((voice, shift))}{VOICE_SUFFIX}")
            known = file.exists()
            voices[voice, shift] = tts.load_voice(file) if known else tts.voice(source(REFERENCE, voice, shift))
        wave = tts.synthesize(text, voice=voices[voice, shift], max_frames=longest, seed=1)
        if len(wave) >= longest * FRAME:
            print(f"evaluate: no end within {longest} frames: {text}", flush=True)
        return wave

    return speaker


def speakers(cfg: SimpleNamespace, work: Path) -> dict[str, Callable[[], Speaker]]:
    """What can be measured: how to come by the speaker, by its name."""
    found: dict[str, Callable[[], Speaker]] = {
        "source": lambda: source,
        "vocoder": lambda: rendered(cfg.codec.lag, None),
    }
    if (work / "codebooks.npz").exists():
        books = Codebooks.load(work)
        found["codes"] = lambda: rendered(cfg.codec.lag, books)
        if (work / "codec" / "mimi").exists():
            model = load_model(work / "codec" / "mimi").eval()
            found["decoder"] = lambda: rendered(cfg.codec.lag, books, model)
            for count in cfg.evaluate.codebooks or [model.config.num_quantizers]:
                found[f"codec{count}"] = partial(resynthesis, model, count)
    if cfg.evaluate.model:
        found["speech"] = lambda: synthesis(cfg)
    return found


def evaluate(cfg: SimpleNamespace, work: Path) -> None:
    """Print a line per voice and condition; add to work/evaluation.json."""
    torch.set_num_threads(cfg.codec.threads)
    work.mkdir(parents=True, exist_ok=True)  # a finished model can be measured without having trained it
    report = work / "evaluation.json"
    known = json.loads(report.read_text()) if report.exists() else {}
    texts = held_out()[: cfg.evaluate.sentences]
    recognise = {name: recogniser(name) for name in cfg.evaluate.recognisers}
    opinions = {name: OPINIONS[name]() for name in cfg.evaluate.opinions}
    people = [(v, s) for v in cfg.evaluate.voices for s in cfg.evaluate.shifts]
    pitches: dict[str, list[float]] = {}
    for condition, speaker_of in speakers(cfg, work).items():
        if cfg.evaluate.conditions and condition not in cfg.evaluate.conditions:
            continue
        speaker = speaker_of()
        for voice, shift in people:
            key = f"{condition} {voice} {shift:g} {len(texts)}"
            if (
                condition not in ("source", "vocoder")
                or key not in known
                or not known[key].keys() >= {*recognise, *opinions}
            ):
                waves = [speaker(text, voice, shift) for text in texts]
                known[key] = {
                    n: word_error_rate([(t, f(w, RATE)) for t, w in zip(texts, waves)]) for n, f in recognise.items()
                }
                known[key] |= {n: float(np.nanmean([f(w, RATE) for w in waves])) for n, f in opinions.items()}
                known[key]["pitch"] = float(np.nanmedian([pitch.median(pitch_track(w, RATE)) for w in waves]))
                report.write_text(json.dumps(known, indent=1))
            figures = " ".join(f"{n} {v:.3f}" for n, v in known[key].items())
            pitches.setdefault(condition, []).append(known[key]["pitch"])
            print(f"{key} sentences: {figures}", flush=True)
    if len(people) > 2 and "source" in pitches:
        wanted = pitches.pop("source")
        for condition, medians in pitches.items():
            related = np.corrcoef(wanted, medians)[0, 1]
            print(
                f"{condition}: correlation of {len(people)} speakers' pitch with the source's: {related:.3f}",
                flush=True,
            )
