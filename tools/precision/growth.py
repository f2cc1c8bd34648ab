"""Where does the error grow? SNR after every matrix on the way (depth), and along a long utterance (time)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sopro_np.bench.stages import forced
from sopro_np.convert.recipe import Recipe
from sopro_np.evaluate import fidelity
from sopro_np.evaluate.fidelity import ForcedInputs, logit_snr, percent_equal
from sopro_np.evaluate.signals import snr
from sopro_np.requantise.watch import watched
from sopro_np.requantise.weights import load_as
from tools.precision.observe import Watch

BIN = 20  # frames per point of a drift curve


def depth(path: Path, scripts: Sequence[ForcedInputs], reference: Recipe, recipe: Recipe) -> dict[str, float]:
    """Matrix -> SNR in dB of what it gives (bias, activation and residual included), in order of computation."""
    kept = []
    for r in (reference, recipe):
        watch = Watch(keeps=True)
        with watched(path, r, watch) as tts:
            for script in scripts:
                fidelity.run_forced(tts, script, free=False)
        kept.append(watch.outputs)
    before, after = kept
    return {name: _snr_of_parts(before[name], after[name]) for name in before}


def _snr_of_parts(r: Sequence[np.ndarray], a: Sequence[np.ndarray]) -> float:
    return snr(np.concatenate([x.ravel() for x in r]), np.concatenate([x.ravel() for x in a]))


def drift(path: Path, wav: np.ndarray, text: str, frames: int, reference: Recipe, recipe: Recipe) -> dict[str, Any]:
    """One utterance of exactly `frames` frames, teacher-forced: measures per BIN frames, and their trend.

    `trend`: slope of a straight line through the points, in units per 100 frames, and its standard error.
    """
    tts = load_as(path, reference)
    script = fidelity.prepare(tts, text, wav, None, forced(tts, frames))
    r, a = fidelity.run_forced(tts, script), fidelity.run_forced(load_as(path, recipe), script)
    hop = tts.mimi.config.hop
    curves: dict[str, list[float]] = {"ar_logits_db": [], "ar": [], "nar": [], "decoder_db": []}
    starts = range(0, frames - BIN + 1, BIN)
    for t in starts:
        f, w = slice(t, t + BIN), slice(t * hop, (t + BIN) * hop)
        curves["ar_logits_db"].append(logit_snr(r.ar[f], a.ar[f]))
        curves["ar"].append(percent_equal(r.ar[f].argmax(axis=1), a.ar[f].argmax(axis=1)))
        curves["nar"].append(percent_equal(r.nar[f].argmax(axis=2), a.nar[f].argmax(axis=2)))
        curves["decoder_db"].append(snr(r.wav[w], a.wav[w]))
    x = np.array([t + BIN / 2 for t in starts])
    return {"frames": list(map(float, x)), **curves, "trend": {k: _trend(x / 100, v) for k, v in curves.items()}}


def _trend(x: np.ndarray, y: Sequence[float]) -> tuple[float, float]:
    """Least squares -> slope and its standard error; points that are infinite (no error at all) are left out."""
    values = np.array(y)
    known = np.isfinite(values)
    x, values = x[known] - x[known].mean(), values[known]
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    return slope, float(np.sqrt(rest @ rest / max(1, len(x) - 2) / (x @ x)))
