"""`sopro-np eval`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sopro_np.cli.process import OutputError
from sopro_np.cli.progress import Progress, watched
from sopro_np.engine import open_model
from sopro_np.errors import UsageError
from sopro_np.evaluate import listening, report
from sopro_np.evaluate.failures import GuardCount
from sopro_np.evaluate.ratings import read_ratings, summarise
from sopro_np.evaluate.run import Task, evaluate
from sopro_np.evaluate.texts import built_in, read_texts
from sopro_np.files import write_whole
from sopro_np.locate import find_model, find_voice
from sopro_np.modelfile import check_kind
from sopro_np.options import Options
from sopro_np.tensorfile import TensorFile
from sopro_np.wav import check_target


def run(args: argparse.Namespace) -> int:
    """Figures for people on stderr; JSON and pages where they were asked for."""
    if args.ratings:
        _write("-", json.dumps(summarise(read_ratings(args.ratings)), indent=1) + "\n")
        return 0
    for name, least in (("seeds", 1), ("count", 1), ("examples", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"--{name} {value} must be at least {least}")
    model, against = find_model(args.model), find_model(args.against) if args.against else None
    for file in filter(None, (model, against)):
        check_kind(TensorFile(file))  # before a voice for it is asked for
    voices = [find_voice(v, model) for v in args.voice or ([] if args.ref else [None])]
    for target in filter(None, (args.json, args.html, args.listen)):
        check_target(target, (model, against, args.texts, *args.ref, *voices))
    if args.only == "fidelity" and (args.listen or args.webmushra):
        raise UsageError("a listening test is made of sampled speech: leave --only fidelity out")
    if args.only == "fidelity" and args.whisper:
        raise UsageError("a recogniser judges sampled speech: leave --whisper or --only fidelity out")
    texts = (read_texts(args.texts) if args.texts else built_in())[: args.count]
    options = {name: getattr(args, name) for name in Options.names() if hasattr(args, name)}
    first = options.pop("seed", 1)
    Options(**options)
    task, shown = Task(args.ref, voices, texts, range(first, first + args.seeds), options), Progress(watched())

    def tell(line: str) -> None:
        shown.clear()
        print(line, file=sys.stderr, flush=True)

    told: dict[str, Any] = {} if args.quiet else {"progress": tell, "advance": shown.update}
    try:
        done = evaluate(
            open_model(model, args.threads, args.ops),
            open_model(against, args.threads, args.ops) if against else None,
            task, args.only, args.whisper, **told,
        )  # fmt: skip
    finally:
        shown.clear()
    result = done.result
    if args.json:
        _write(args.json, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if args.html:
        _write(args.html, report.page(result, done.examples(args.examples), done.rate))
    if args.listen:
        title = "How does this speech sound?"
        _write(args.listen, listening.page(done.stimuli(max(1, args.examples)), done.rate, title))
    if args.webmushra:
        listening.write_webmushra(Path(args.webmushra), done.stimuli(max(1, args.examples)), done.rate)
    for name, why in result["missing"].items():
        print(f"not measured: {name}: {why}", file=sys.stderr)
    for line in lines(result):
        print(line, file=sys.stderr)
    return 0


def _write(target: str, content: str) -> None:
    """To stdout, into a file that appears whole or not at all, or into a pipe or device."""
    if target == "-":
        sys.stdout.write(content)
        return
    write_whole(target, content.encode(), OutputError)


def lines(result: dict[str, Any]) -> list[str]:
    """The result for people, with what every figure means."""
    out = []
    if found := result.get("fidelity"):
        out += [f"fidelity, {found['texts']} texts, {found['frames']} frames (mean, worst):"]
        out += [f"  {name:14} {_figure(m['mean'])} {_figure(m['worst'])}" for name, m in found["measures"].items()]
    if found := result.get("quality"):
        out += [f"quality, {found['texts']} texts x {found['seeds']} seeds (mean, 95 % interval);"
                f" MCD and F0 against {found['mcd_and_f0_against']}:"]  # fmt: skip
        for system, inside in found["systems"].items():
            out.append(f"  {system}")
            out += _summary(inside["summary"])
            if found_by_guard := inside.get("guard"):
                out.append(f"    guard: {GuardCount(**found_by_guard)}")
        if difference := found.get("difference"):
            out.append("  model minus against")
            out += _summary(difference)
    return out + [f"- {text}" for text in result["definitions"]]


def _figure(value: float | None) -> str:
    return "       -" if value is None else f"{value:8.2f}"


def _summary(found: dict[str, dict[str, Any]]) -> list[str]:
    width, rows = max(map(len, found), default=0), []
    for name, m in found.items():
        low, high = (_figure(m[bound]).strip() for bound in ("low", "high"))
        rows.append(f"    {name:{width}} {_figure(m['mean'])} {m['unit']:5} [{low}, {high}]")
    return rows
