"""What the built-in recipes do to one model: size, weights, and every stage fed with the fp32 model's own codes.

    python tools/recipe_table.py --sopro FILE --mimi DIR --tokenizer DIR --ref ref.wav

"voice": share of equal reference codes; "AR": share of frames whose likeliest first code is the same; "NAR": share of
equal codes in the other codebooks; "decoder": SNR of the decoded waveform. Nothing is sampled, so nothing diverges.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.bench import TEXT
from sopro_np.convert.convert import convert
from sopro_np.convert.recipe import BUILT_IN, Recipe, load_recipe
from sopro_np.engine import Sopro, load
from sopro_np.errors import SoproError
from sopro_np.evaluate.signals import snr


@dataclass
class Outputs:
    """One model's answers; codes (R, Q), likeliest first codes (T,), refined codes (T, Q), waveform."""

    voice: np.ndarray
    first: np.ndarray
    refined: np.ndarray
    wav: np.ndarray


def answers(tts: Sopro, ref: str, given: Outputs | None) -> Outputs:
    """Teacher-forced run: voice codes and first codes are `given`'s (the model's own where None)."""
    heard = tts.voice(ref).codes
    voice = tts.voice_from_codes(heard.astype(np.int64) if given is None else given.voice.astype(np.int64))
    spoken = tts.codes(TEXT, voice=voice, seed=1) if given is None else given.refined
    model = tts.model
    sequence, pooled = model.text(tts.tokenizer.encode(TEXT))
    memories = model.ar.memories(sequence)
    style = model.config.style_strength
    rows = model.condition.rows(pooled, voice.speaker, voice.memories, style, 0, len(spoken))
    state = model.ar.fresh(voice.codes[: model.config.prefix_frames, 0])
    first = []
    for row, code in zip(rows, spoken[:, 0], strict=True):
        first.append(int(model.ar.step(row, state, memories).argmax()))
        state.push(int(code))
    refined = model.nar(rows, spoken[:, 0], model.nar.fresh())
    return Outputs(heard, np.array(first), refined, tts.decode(spoken))


def line(recipe: Recipe, args: argparse.Namespace, path: Path, base: Outputs | None) -> tuple[str, Outputs]:
    """Convert, run, compare."""
    report = convert(path, recipe, args.sopro, args.mimi, args.tokenizer)
    out = answers(load(path, threads=1), args.ref, base)
    base = base or out
    weights = [t.snr_db for t in report.tensors if t.snr_db is not None]
    cells = (
        recipe.name,
        f"{report.bytes_after / 1e6:.1f} MB",
        f"{statistics.median(weights):.1f} / {min(weights):.1f} dB" if weights else "exact",
        f"{100 * (out.voice == base.voice).mean():.1f} %",
        f"{100 * (out.first == base.first).mean():.1f} %",
        f"{100 * (out.refined[:, 1:] == base.refined[:, 1:]).mean():.1f} %",
        f"{snr(base.wav, out.wav):.1f} dB",
    )
    return "| " + " | ".join(cells) + " |", out


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for part in ("sopro", "mimi", "tokenizer"):
        parser.add_argument(f"--{part}", type=Path, required=True)
    parser.add_argument("--ref", required=True)
    parser.add_argument("recipes", nargs="*", default=list(BUILT_IN), help="the first one is the reference")
    args = parser.parse_args()
    print("| recipe | file | weights, median / worst SNR | voice | AR | NAR | decoder |\n|---|---|---|---|---|---|---|")
    base = None
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for name in args.recipes:
                text, out = line(load_recipe(name), args, Path(scratch) / f"{len(name)}.safetensors", base)
                base = base or out
                print(text)
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
