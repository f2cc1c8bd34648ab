"""What finding the integers well is worth: the same recipes, rounded plainly, by the weights (with squares, and as HQQ
with an lp norm), and by what the model says.

    python -m tools.precision.roundings MODEL --ref ref.wav

MODEL is converted with `--recipe fp32`. Two tables of Markdown to stdout: the whole model as in the study, and the
weights alone, where zero points are tried, too. Calibration knows neither the sentences nor the recordings of the
study.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sopro_np.convert.recipe import Recipe, load_recipe
from sopro_np.convert.rounding import Fitted, Rounding
from sopro_np.errors import SoproError
from sopro_np.ops.quant import FORMATS, Format, grouped
from sopro_np.requantise.calibrate import calibrated
from sopro_np.requantise.weights import load_as, matrices
from sopro_np.tensorfile import TensorFile
from tools.precision.layers import stored_bytes
from tools.precision.measure import bench_of

HQQ = Fitted(turns=10, norm=0.7)
COLUMNS = {
    "AR %": "ar", "AR dB": "ar_logits_db", "NAR %": "nar", "NAR dB": "nar_logits_db", "decoder dB": "decoder_db",
    "MCD dB": "decoder_mcd", "free MCD dB": "free_running_mcd",
}  # fmt: skip
LEVELS = np.linspace(0.7, 1.05, 15, dtype=np.float32)  # of the ends of a range, for zero points


def roundings(path: Path, recipe: Recipe, count: int) -> dict[str, Rounding]:
    """By name, as the tables have them."""
    return {
        "plain": Rounding(), "fitted": Fitted(), "HQQ": HQQ,
        f"calibrated, {count} sentences": calibrated(path, recipe, count),
    }  # fmt: skip


def models(args: argparse.Namespace) -> Iterator[list[str]]:
    """Rows of the first table."""
    bench = bench_of(args.model, args.ref, args.count, args.max_frames)
    shapes = matrices(args.model)
    yield ["recipe", "rounding", "matrices", *COLUMNS]
    for name in args.recipe or ("int8", "int4"):
        recipe = load_recipe(name)
        size = sum(stored_bytes(shape, recipe.scheme(n)) for n, shape in shapes.items()) / 1e6
        for label, rounding in roundings(args.model, recipe, args.calibrate).items():
            measured = bench.measure(load_as(args.model, recipe, threads=1, rounding=rounding))
            values = [measured.get(key, float("nan")) for key in COLUMNS.values()]
            decimals = [2 if "MCD" in column else 1 for column in COLUMNS]
            numbers = [f"{v:.{d}f}" for v, d in zip(values, decimals, strict=True)]
            yield [recipe.name, label, f"{size:.1f} MB", *numbers]


def weights(path: Path) -> Iterator[list[str]]:
    """Rows of the second table: mean SNR of Sopro's matrices by size of groups, and bits for each weight."""
    file, shapes = TensorFile(path), matrices(path)
    chosen = [np.array(file[n]) for n, (_, c) in shapes.items() if n.startswith("sopro.") and c % 32 == 0]
    sizes = {f: form for f, form in FORMATS.items() if form.scheme == "int4"}
    yield ["int4", *(f"groups of {form.group}" for form in sizes.values())]
    ways: dict[str, Callable[[np.ndarray, str, Format], float]] = {
        "plain": lambda w, f, form: _snr(w, Rounding()("", w, f).dequantize() - w),
        "searched, no fitting": lambda w, f, form: _snr(w, Fitted(0)("", w, f).dequantize() - w),
        "fitted": lambda w, f, form: _snr(w, Fitted()("", w, f).dequantize() - w),
        "HQQ": lambda w, f, form: _snr(w, HQQ("", w, f).dequantize() - w),
        "zero points, searched": lambda w, f, form: _snr(w, _zero_points(grouped(w, 1, form.group))),
    }
    for name, way in ways.items():
        row = [f"{name}, dB"]
        for f, form in sizes.items():
            found = [way(w, f, form) for w in chosen if w.shape[1] % form.group == 0]
            row.append(f"{np.mean(found):.2f}" if found else "-")
        yield row
    yield ["bits a weight", *(f"{4 + 16 / form.group:g}" for form in sizes.values())]
    yield ["bits with zero points", *(f"{4 + 20 / form.group:g}" for form in sizes.values())]


def _snr(w: np.ndarray, error: np.ndarray) -> float:
    return float(10 * np.log10(np.vdot(w, w) / np.vdot(error, error)))


def _zero_points(groups: np.ndarray) -> np.ndarray:
    """The errors of groups (..., g) in 16 steps between two ends that are searched; zero is one of the steps."""
    w = groups.reshape(-1, groups.shape[-1])
    low, high = w.min(axis=1, keepdims=True), w.max(axis=1, keepdims=True)
    best, least = np.zeros_like(w), np.full((len(w), 1), np.inf, np.float32)
    for f in LEVELS:
        for g in LEVELS:
            scale = ((high * f - low * g) / 15).astype(np.float16).astype(np.float32)
            scale[scale == 0] = 1
            zero = np.clip(np.rint(-low * g / scale), 0, 15)
            error = (np.clip(np.rint(w / scale) + zero, 0, 15) - zero) * scale - w
            power = np.square(error).sum(axis=1, keepdims=True)
            best = np.where(power < least, error, best)
            least = np.minimum(power, least)
    return best


def table(rows: Iterator[list[str]]) -> None:
    """As Markdown, row by row."""
    for i, row in enumerate(rows):
        print(f"| {' | '.join(row)} |", flush=True)
        if i == 0:
            print("|" + " --- |" * len(row), flush=True)
    print()


def measuring(doc: str | None) -> argparse.ArgumentParser:
    """What a comparison of whole models is given."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="converted with --recipe fp32")
    parser.add_argument("--ref", action="append", required=True, metavar="FILE", help="recordings of voices, in turns")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="sentences to measure with (8)")
    parser.add_argument("--max-frames", type=int, default=400, metavar="N", help="of a sentence (400)")
    return parser


def tables(*all_rows: Iterator[list[str]]) -> int:
    """One after the other -> the exit code."""
    try:
        for rows in all_rows:
            table(rows)
    except SoproError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def main() -> int:
    parser = measuring(__doc__)
    parser.add_argument("--calibrate", type=int, default=16, metavar="N", help="sentences to calibrate with (16)")
    parser.add_argument("--recipe", action="append", metavar="NAME|FILE", help="default: int8 and int4")
    args = parser.parse_args()
    return tables(weights(args.model), models(args))


if __name__ == "__main__":
    sys.exit(main())
