"""`sopro-np convert`: published checkpoints -> one file."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sopro_np.errors import ConvertError, UsageError

if TYPE_CHECKING:
    from sopro_np.convert.convert import Learn, Report
    from sopro_np.convert.passed_over import Tell
    from sopro_np.convert.recipe import Recipe

RECIPES = "fp32, fp16, bf16, int8, int4, board"
VOCABULARIES = ("latin",)
ROUNDINGS = ("fitted", "plain")
MOST_SENTENCES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; importing this loads nothing of the converter."""
    parser.add_argument("--sopro", type=Path, metavar="FILE", help="Sopro checkpoint, either generation")
    parser.add_argument("--mimi", type=Path, metavar="DIR|FILE", help="Mimi in transformers' format")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR|FILE", help="tokenizer.json and its config")
    parser.add_argument("--bos", type=int, metavar="ID", help="id before the text (default: tokenizer_config)")
    parser.add_argument("--eos", type=int, metavar="ID", help="id after the text (default: tokenizer_config)")
    parser.add_argument("--from", dest="model", type=Path, metavar="FILE", help="a model file instead of checkpoints")
    parser.add_argument("--recipe", default="int8", metavar="NAME|FILE", help=f"{RECIPES} or JSON (default: int8)")
    parser.add_argument("--rounding", choices=ROUNDINGS, help="of int4: plain if it was trained for (default: fitted)")
    parser.add_argument("--speak-only", action="store_true", help="leave out what makes a voice of a recording")
    parser.add_argument("--vocabulary", choices=VOCABULARIES, help="leave out the tokens of other scripts")
    parser.add_argument(
        "--calibrate", type=int, metavar="N", help="round by what it computes while it says N sentences"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the model file to write")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here as JSON")
    parser.add_argument("--drop", action="append", default=[], metavar="PATTERN", help="tensors to leave out")
    parser.add_argument("--allow-unknown-config", action="store_true", help="take them with --strict, too")
    parser.add_argument("--strict", action="store_true", help="refuse what upstream's own loaders pass over")


def run(args: argparse.Namespace) -> int:
    """Convert, and report what that cost in precision."""
    from sopro_np.convert.convert import convert
    from sopro_np.convert.recipe import load_recipe
    from sopro_np.files import write_whole
    from sopro_np.wav import check_target

    if args.json is not None and args.json.resolve() == args.output.resolve():
        raise UsageError("--json and --output name the same file")
    for target in filter(None, (args.output, args.json)):
        check_target(str(target), (args.sopro, args.mimi, args.tokenizer, args.model))
    recipe = load_recipe(args.recipe)
    if args.speak_only:
        recipe = replace(recipe, speak_only=True)
    if args.rounding:
        recipe = replace(recipe, rounding=args.rounding)
    if args.vocabulary:
        recipe = replace(recipe, vocabulary=args.vocabulary)
    learn = None if args.calibrate is None else _learning(recipe, args.calibrate)
    passed_over: list[str] = []
    if args.model is not None:
        report = _requantised(args, recipe, learn, passed_over.append)
    else:
        report = convert(
            args.output,
            recipe,
            args.sopro,
            args.mimi,
            args.tokenizer,
            bos=args.bos,
            eos=args.eos,
            drop=tuple(args.drop),
            allow_unknown_config=args.allow_unknown_config,
            strict=args.strict,
            tell=passed_over.append,
            learn=learn,
        )
    if args.json is not None:
        write_whole(args.json, (json.dumps(report.as_dict(), indent=1) + "\n").encode(), ConvertError)
    print_report(report, passed_over)
    return 0


def _requantised(args: argparse.Namespace, recipe: Recipe, learn: Learn | None, tell: Tell) -> Report:
    from sopro_np.requantise.file import requantise

    given = ("sopro", "mimi", "tokenizer", "bos", "eos", "drop", "allow_unknown_config", "strict")
    if others := [f"--{name.replace('_', '-')}" for name in given if getattr(args, name) not in (None, [], False)]:
        raise UsageError(f"--from takes a model file as it is, without {', '.join(others)}")
    return requantise(args.model, args.output, recipe, learn, tell)


def _learning(recipe: Recipe, count: int) -> Learn:
    from sopro_np.requantise.calibrate import calibrated

    if not 1 <= count <= MOST_SENTENCES:
        raise UsageError(f"--calibrate {count}: from 1 to {MOST_SENTENCES} sentences; 16 are plenty")
    return lambda path: calibrated(path, recipe, count, lambda line: print(line, file=sys.stderr, flush=True))


def print_report(report: Report, passed_over: list[str]) -> None:
    """A line per matrix, then what was left out or passed over, and the totals.

    "plain" is what a rounding without any search would have; "output" is of what a matrix computes from inputs that
    calibration set aside.
    """
    calibrated = any(t.output_snr_db is not None for t in report.tensors)
    heads = ("SNR dB", "plain", *(("output", "plain") if calibrated else ()))
    columns = " ".join(f"{head:>7}" for head in heads)
    print(f"{'tensor':52} {'scheme':8} {'shape':>16} {'max error':>10} {columns}", file=sys.stderr)
    for t in report.tensors:
        known = t.plain_output_snr_db is not None
        outputs = [_db(t.output_snr_db), _db(t.plain_output_snr_db)] if known else ["", ""]
        values = [_db(t.snr_db), _db(t.plain_snr_db), *(outputs if calibrated else [])]
        columns = " ".join(f"{value:>7}" for value in values)
        shape = f"{t.shape[0]} x {t.shape[1]}"
        print(f"{t.name:52} {t.scheme:8} {shape:>16} {t.max_error:10.2e} {columns}".rstrip(), file=sys.stderr)
    for name in report.dropped:
        print(f"dropped on request: {name}", file=sys.stderr)
    for line in passed_over:
        print(f"warning: {line}", file=sys.stderr)
    before, after = report.bytes_before / 1e6, report.bytes_after / 1e6
    print(f"{report.path}: {before:.1f} MB -> {after:.1f} MB, recipe {report.recipe}", file=sys.stderr)


def _db(snr: float | None) -> str:
    return "exact" if snr is None else f"{snr:.1f}"
