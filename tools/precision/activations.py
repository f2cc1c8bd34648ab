"""What bits of activations are worth: int8 weights, rows with and without a zero point, each precision.

    python -m tools.precision.activations MODEL --ref ref.wav

MODEL is converted with `--recipe fp32`. A table of Markdown to stdout: the whole model as in the study, computed by the
engine's own kernels, and how many rows and multiplications had 16 bits. At "fine" activations cost nothing that could
be measured: what is lost there, int8 weights lose.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

from sopro_np.bench.roofline import split_shares
from sopro_np.convert.recipe import BUILT_IN, Recipe
from sopro_np.ops.native.commands import profiled
from sopro_np.ops.runtime import Runtime
from sopro_np.precision import MODES
from sopro_np.requantise.weights import load_as
from tools.precision.measure import bench_of
from tools.precision.roundings import COLUMNS, measuring, tables


def recipes() -> Iterator[Recipe]:
    """int8; with zero points behind GELU and, in the codec's decoder, behind ELU; with zero points everywhere."""
    int8 = BUILT_IN["int8"]
    yield int8
    behind = (("*.ff_out", "int8-asymmetric"), ("mimi.decoder.*", "int8-asymmetric"))
    yield replace(int8, name="zero points behind ELU and GELU", rules=(*behind, *int8.rules))
    everywhere = tuple((pattern, "int8-asymmetric" if form == "int8" else form) for pattern, form in int8.rules)
    yield replace(int8, name="zero points everywhere", rules=everywhere)


def rows(args: argparse.Namespace) -> Iterator[list[str]]:
    """Of the table."""
    bench = bench_of(args.model, args.ref, args.count, args.max_frames)
    yield ["inputs", "precision", *COLUMNS, "16 bits: rows", "multiplications"]
    for recipe in recipes():
        for mode in MODES:
            tts = load_as(args.model, recipe, "native", threads=1)
            tts.runtime = Runtime(tts.ops, 1, mode)
            with profiled() as calls:
                measured = bench.measure(tts)
            numbers = [f"{measured[key]:.{2 if 'MCD' in column else 1}f}" for column, key in COLUMNS.items()]
            shares = [f"{100 * share:.1f} %" for share in split_shares(calls).values()]
            yield [recipe.name, mode, *numbers, *shares]


def main() -> int:
    args = measuring(__doc__).parse_args()
    return tables(rows(args))


if __name__ == "__main__":
    sys.exit(main())
