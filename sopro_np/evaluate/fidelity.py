"""Is it the same model? Teacher forcing: every stage of two models is fed with the same input, so nothing diverges.

`ForcedInputs` are what both get: a recording's codes, a text, and the codes that one of them (the reference) spoke. The
output of a stage depends on these alone, never on what the same model said at an earlier stage; only in `free_running`
a model continues with its own codes, behind a forced first codebook, as far as its own waveform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.engine import Sopro
from sopro_np.errors import UsageError
from sopro_np.evaluate.signals import log_spectral_distance, snr
from sopro_np.evaluate.world import Analysis, compare_in_step
from sopro_np.options import DEFAULTS, Options
from sopro_np.sampler import PENALTY, PENALTY_WINDOW, Uniform

DEFINITIONS = {
    "voice": "percent of equal codes of the reference recording",
    "ar": "percent of frames with the same likeliest first code, after the same codes",
    "ar_drawn": "percent of frames with the same first code drawn by the same random number, after the same codes",
    "ar_logits_db": "SNR of the first codebook's logits less their mean, in dB",
    "nar": "percent of equal codes in the other codebooks, each stage fed with the same earlier codebooks",
    "nar_logits_db": "SNR of their logits less the mean of each head, in dB",
    "decoder_db": "SNR of the waveform decoded from the same codes, in dB",
    "decoder_lsd": "log-spectral distance of the same two waveforms, in dB",
    "decoder_mcd": "MCD of the same two waveforms, frame by frame, in dB",
    "free_running": "percent of equal codes in the other codebooks where each model goes on with its own",
    "free_running_mcd": "MCD between the waveforms that each model decodes from these, in dB",
}


@dataclass(frozen=True)
class ForcedInputs:
    """text; wav (n,) of the reference recording at the codec's rate, or None; voice (R, Q); codes (T, Q)."""

    text: str
    wav: np.ndarray | None
    voice: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Outputs:
    """What one model makes of forced inputs.

    heard (R, Q) or None; ar (T, V) logits; drawn (T,); nar (T, Q-1, V) logits; wav (n,) of the codes given;
    free_running (T, Q) codes and free_running_wav (n,) decoded from them.
    """

    heard: np.ndarray | None
    ar: np.ndarray
    drawn: np.ndarray
    nar: np.ndarray
    wav: np.ndarray
    free_running: np.ndarray
    free_running_wav: np.ndarray


def prepare(tts: Sopro, text: str, wav: np.ndarray | None, voice: np.ndarray | None, options: Options) -> ForcedInputs:
    """Inputs that this model makes by itself: the codes it hears (or those of a saved voice), and what it then says."""
    if voice is None:
        if wav is None:
            raise UsageError("forced inputs need a recording or a voice")
        with tts.runtime():
            voice = tts.mimi.encode(wav)[:, : tts.model.config.codebooks]
    blocks = list(tts.session(text, tts.voice_from_codes(voice), options).blocks())
    if not blocks:
        raise UsageError(f"the model said nothing under seed {options.seed}: {text!r:.60}; try another seed")
    return ForcedInputs(text, wav, voice, np.concatenate(blocks))


def run_forced(tts: Sopro, given: ForcedInputs, seed: int = 0, free: bool = True) -> Outputs:
    """One model's outputs. `seed`: of the random numbers for `drawn`.

    `free` False: the model never goes on with its own codes; `free_running` are those given.
    """
    model, codes = tts.model, given.codes
    voice = tts.voice_from_codes(given.voice)
    with tts.runtime():
        heard = None if given.wav is None else tts.mimi.encode(given.wav)[:, : model.config.codebooks]
        utterance = model.start(tts.tokenizer.encode(given.text), voice)
        rows = model.condition.rows(utterance, 0, len(codes))
        state = model.ar.new_state(utterance.prefix)
        logits, drawn, random = [], [], Uniform(seed)
        for t, row in enumerate(rows):
            logits.append(model.ar.step(row, state, utterance).copy())
            drawn.append(_draw(logits[-1], codes[:t, 0], random.draw()))
            state.push(int(codes[t, 0]))
        nar = np.concatenate([logits for _, logits in model.nar.forced_logits(rows, codes)], axis=1)
        free_running = model.nar(rows, codes[:, 0], model.nar.new_state()) if free else codes
    wav = tts.decode(codes)
    free_running_wav = tts.decode(free_running) if free else wav
    return Outputs(heard, np.array(logits), np.array(drawn), nar, wav, free_running, free_running_wav)


def _draw(logits: np.ndarray, before: np.ndarray, uniform: float) -> int:
    o, seen = DEFAULTS, [int(c) for c in before[-PENALTY_WINDOW:]]
    return ops.sample(logits, seen, o.temperature, o.top_k, o.top_p, PENALTY, uniform)


def compare(reference: Outputs, actual: Outputs) -> dict[str, float]:
    """All measures of DEFINITIONS that need no library; `mcds` has the others."""
    r, a = reference, actual
    return {
        "voice": float("nan") if r.heard is None or a.heard is None else percent_equal(r.heard, a.heard),
        "ar": percent_equal(r.ar.argmax(axis=1), a.ar.argmax(axis=1)),
        "ar_drawn": percent_equal(r.drawn, a.drawn),
        "ar_logits_db": logit_snr(r.ar, a.ar),
        "nar": percent_equal(r.nar.argmax(axis=2), a.nar.argmax(axis=2)),
        "nar_logits_db": logit_snr(r.nar, a.nar),
        "decoder_db": snr(r.wav, a.wav),
        "decoder_lsd": log_spectral_distance(r.wav, a.wav),
        "free_running": percent_equal(r.free_running[:, 1:], a.free_running[:, 1:]),
    }


def mcds(reference: tuple[Analysis, Analysis], actual: Outputs, rate: int) -> dict[str, float]:
    """The two MCDs. `reference`: analyses of the reference's `wav` and `free_running_wav` (slow, so made once)."""
    return {
        "decoder_mcd": compare_in_step(reference[0], actual.wav, rate),
        "free_running_mcd": compare_in_step(reference[1], actual.free_running_wav, rate),
    }


def percent_equal(a: np.ndarray, b: np.ndarray) -> float:
    return 100 * float((a == b).mean()) if a.size else float("nan")


def logit_snr(reference: np.ndarray, actual: np.ndarray) -> float:
    """SNR in dB of logits (..., V) without their mean over V, which no softmax sees."""
    return snr(*(x - x.mean(axis=-1, keepdims=True) for x in (reference.astype(np.float64), actual.astype(np.float64))))
