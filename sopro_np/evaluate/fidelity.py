"""Is it the same model? Every stage of two models is fed with the same input, so that nothing diverges.

A `Script` is what both are told: a recording's codes, a text, and the codes that one of them (the reference) spoke.
A stage's answer depends on the script alone, never on what the same model said at an earlier stage; only `chain` lets
a model continue with its own codes, behind a forced first codebook, as far as its own waveform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopro_np import ops
from sopro_np.engine import Sopro
from sopro_np.errors import UsageError
from sopro_np.evaluate.signals import log_spectral_distance, snr
from sopro_np.evaluate.world import Analysis, compare_in_step
from sopro_np.ops.context import computing
from sopro_np.options import Options
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
    "chain": "percent of equal codes in the other codebooks where each model goes on with its own",
    "chain_mcd": "MCD between the waveforms that each model decodes from these, in dB",
}


@dataclass(frozen=True)
class Script:
    """text; wav (n,) of the reference recording at the codec's rate, or None; voice (R, Q); codes (T, Q)."""

    text: str
    wav: np.ndarray | None
    voice: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Answers:
    """What one model makes of a script.

    heard (R, Q) or None; ar (T, V) logits; drawn (T,); nar (T, Q-1, V) logits; wav (n,) of the script's codes; chain
    (T, Q) codes and chain_wav (n,) decoded from them.
    """

    heard: np.ndarray | None
    ar: np.ndarray
    drawn: np.ndarray
    nar: np.ndarray
    wav: np.ndarray
    chain: np.ndarray
    chain_wav: np.ndarray


def write(tts: Sopro, text: str, wav: np.ndarray | None, voice: np.ndarray | None, options: Options) -> Script:
    """The script that this model plays by itself: the codes it hears (or those of a saved voice), what it then says."""
    if voice is None:
        if wav is None:
            raise UsageError("a script needs a recording or a voice")
        with computing(tts.ops, tts.threads):
            voice = tts.mimi.encode(wav)[:, : tts.model.config.codebooks]
    blocks = list(tts.session(text, tts.voice_from_codes(voice), options).blocks())
    if not blocks:
        raise UsageError(f"the model said nothing under seed {options.seed}: {text!r:.60}; try another seed")
    return Script(text, wav, voice, np.concatenate(blocks))


def play(tts: Sopro, script: Script, seed: int = 0, chains: bool = True) -> Answers:
    """One model's answers to a script. `seed`: of the random numbers for `drawn`.

    `chains` False: the model never goes on with its own codes; `chain` is the script's.
    """
    model, codes = tts.model, script.codes
    voice = tts.voice_from_codes(script.voice)
    with computing(tts.ops, tts.threads):
        heard = None if script.wav is None else tts.mimi.encode(script.wav)[:, : model.config.codebooks]
        sequence, pooled = model.text(tts.tokenizer.encode(script.text))
        texts = model.ar.memories(sequence)
        rows = model.condition.rows(pooled, voice.speaker, voice.memories, model.config.style_strength, 0, len(codes))
        state = model.ar.fresh(voice.codes[: model.config.prefix_frames, 0])
        logits, drawn, random = [], [], Uniform(seed)
        for t, row in enumerate(rows):
            logits.append(model.ar.step(row, state, texts).copy())
            drawn.append(_draw(logits[-1], codes[:t, 0], random.draw()))
            state.push(int(codes[t, 0]))
        nar = np.concatenate(
            [
                stage.logits(
                    stage.features(
                        rows, stage.known_sum(codes, model.nar.table, model.nar.code_values), tails, len(rows)
                    )
                )
                for stage, tails in zip(model.nar.stages, model.nar.fresh().tails, strict=True)
            ],
            axis=1,
        )
        chain = model.nar(rows, codes[:, 0], model.nar.fresh()) if chains else codes
    wav = tts.decode(codes)
    chain_wav = tts.decode(chain) if chains else wav
    return Answers(heard, np.array(logits), np.array(drawn), nar, wav, chain, chain_wav)


def _draw(logits: np.ndarray, before: np.ndarray, uniform: float) -> int:
    o, seen = Options(), [int(c) for c in before[-PENALTY_WINDOW:]]
    return ops.draw(logits, seen, o.temperature, o.top_k, o.top_p, PENALTY, uniform)


def compare(reference: Answers, actual: Answers) -> dict[str, float]:
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
        "chain": percent_equal(r.chain[:, 1:], a.chain[:, 1:]),
    }


def mcds(reference: tuple[Analysis, Analysis], actual: Answers, rate: int) -> dict[str, float]:
    """The two MCDs. `reference`: analyses of the reference's `wav` and `chain_wav` (slow, so made once)."""
    return {
        "decoder_mcd": compare_in_step(reference[0], actual.wav, rate),
        "chain_mcd": compare_in_step(reference[1], actual.chain_wav, rate),
    }


def percent_equal(a: np.ndarray, b: np.ndarray) -> float:
    return 100 * float((a == b).mean()) if a.size else float("nan")


def logit_snr(reference: np.ndarray, actual: np.ndarray) -> float:
    """SNR in dB of logits (..., V) without their mean over V, which no softmax sees."""
    return snr(*(x - x.mean(axis=-1, keepdims=True) for x in (reference.astype(np.float64), actual.astype(np.float64))))
