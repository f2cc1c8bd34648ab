"""`sopro-np`: arguments in, exit code out. Audio and JSON go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from sopro_np.cli import process
from sopro_np.options import Options
from sopro_np.version import __version__

DEFAULT_MODEL = "default: SOPRO_NP_MODEL, else the embedded demo voice"


def build_parser() -> argparse.ArgumentParser:
    """All commands and options. Words may be joined by - or _ (upstream's spelling)."""
    parser = argparse.ArgumentParser(prog="sopro-np", description="Sopro TTS without a deep-learning framework.")
    parser.add_argument("--version", action="version", version=f"sopro-np {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    say = commands.add_parser("say", help="speak a text into a file or a pipe")
    say.add_argument("text", metavar="TEXT|-", help="what to say; - reads standard input")
    who = say.add_mutually_exclusive_group()
    who.add_argument("--ref", "-r", "--ref-audio", metavar="FILE", help="recording of the voice to speak in")
    who.add_argument("--voice", "-v", metavar="FILE|NAME", help="saved voice, or an embedded one's name")
    _add_model(say)
    say.add_argument("-o", "--out", default="sopro.wav", metavar="FILE|-", help="default sopro.wav; - is stdout")
    say.add_argument("--raw", action="store_true", help="16-bit little-endian samples without a header")
    say.add_argument("--stream", action="store_true", help="write audio while it is generated")
    say.add_argument("--srt", metavar="FILE", help="also write subtitles: when each sentence is said")
    say.add_argument("--vtt", metavar="FILE", help="the same as WebVTT")
    say.add_argument("--json", metavar="FILE", help="the same as JSON, with seeds, tries and what was found")
    say.add_argument("--strict-check", action="store_true", help="exit code 1 if the speech may be wrong")
    say.add_argument("--quiet", "-q", action="store_true", help="no progress")
    _add_options(say)

    text = commands.add_parser("text", help="show what will be said instead of a text, and by which rules")
    text.add_argument("text", metavar="TEXT|-", help="what to say; - reads standard input")
    text.add_argument("--day-first", action="store_true", help="1/2/2026 is the first of February")
    text.add_argument("--lexicon", metavar="FILE", help="a word and its respelling a line, with a tab or = between")
    text.add_argument("--lenient", action="store_true", help="leave out what cannot be said")
    text.add_argument("--json", action="store_true", help="with the spans in the text given")

    voice = commands.add_parser("voice", help="make a voice file from a recording")
    voice.add_argument("ref", metavar="REF")
    voice.add_argument("-o", "--out", required=True, metavar="FILE", help="e.g. me.voice.safetensors")
    voice.add_argument("--seconds", type=float, metavar="S", help="use at most so much from the middle")
    _add_model(voice)

    info = commands.add_parser("info", help="what is in a model or voice file")
    info.add_argument("file", nargs="?", metavar="FILE|NAME", help=DEFAULT_MODEL)
    info.add_argument("--json", action="store_true")
    info.add_argument("--memory", action="store_true", help="also speak a little, and say what memory that took")

    doctor = commands.add_parser("doctor", help="what this machine offers, and what is missing")
    doctor.add_argument("--json", action="store_true")

    download = commands.add_parser("download", help="fetch a published model and convert it")
    download.add_argument("generation", choices=("v1", "v1.5"))
    download.add_argument("--recipe", default="int8", metavar="NAME|FILE")
    download.add_argument("--revision", metavar="REV", help="of the Sopro repository")
    download.add_argument("--mimi-revision", metavar="REV")
    download.add_argument("--accept-changes", action="store_true", help="take a source that changed since last time")
    download.add_argument("--drop", action="append", default=[], metavar="PATTERN", help="tensors to leave out")
    download.add_argument("--allow-unknown-config", action="store_true", help="take them with --strict, too")
    download.add_argument("--strict", action="store_true", help="refuse what upstream's own loaders pass over")
    download.add_argument("--bos", type=int, metavar="ID", help="id before the text")
    download.add_argument("--eos", type=int, metavar="ID", help="id after the text")

    bench = commands.add_parser("bench", help="how fast is this machine?")
    _add_model(bench)
    bench.add_argument("--frames", type=int, default=100, metavar="N", help="frames to generate (12.5 a second)")
    bench.add_argument("--runs", type=int, default=3, metavar="N")
    bench.add_argument("--json", action="store_true", help="all figures, to stdout")
    bench.add_argument("--batch", type=_counts, metavar="N,N", help="only this: utterances at once, e.g. 1,4,16")
    bench.add_argument("--perf", action="store_true", help="also count cache misses with `perf`, where it can")
    bench.add_argument("--share", action="store_true", help="a table row for docs/SPEED.md, to stdout")

    evaluate = commands.add_parser("eval", help="how well does a model speak, and how far is it from another one?")
    evaluate.add_argument("model", nargs="?", metavar="FILE|NAME", help=DEFAULT_MODEL)
    evaluate.add_argument("--against", metavar="FILE|NAME", help="the model to compare with, e.g. the same one in fp32")
    evaluate.add_argument("--ref", "-r", action="append", default=[], metavar="FILE", help="recordings of voices")
    evaluate.add_argument("--voice", "-v", action="append", default=[], metavar="FILE|NAME", help="saved voices")
    evaluate.add_argument("--texts", metavar="FILE", help="a text a line, a tab, a recording of it; default: built in")
    evaluate.add_argument("--count", type=int, metavar="N", help="only the first N texts (60)")
    evaluate.add_argument("--seeds", type=int, default=3, metavar="N", help="utterances of every text (3)")
    evaluate.add_argument("--only", choices=("fidelity", "quality"), help="leave the other question out")
    evaluate.add_argument("--json", metavar="FILE|-", help="all figures")
    evaluate.add_argument("--html", metavar="FILE", help="a page with tables, spectrograms and players")
    evaluate.add_argument("--listen", metavar="FILE", help="a page for a blind AB, ABX and MOS test")
    evaluate.add_argument("--webmushra", metavar="DIR", help="the same stimuli for webMUSHRA")
    evaluate.add_argument("--ratings", nargs="+", metavar="FILE", help="only sum up what listeners saved as JSON")
    evaluate.add_argument("--examples", type=int, default=8, metavar="N", help="texts that can be heard on pages (8)")
    evaluate.add_argument("--quiet", "-q", action="store_true", help="no progress")
    _add_computing(evaluate)
    _add_options(evaluate)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", "-m", metavar="FILE|NAME", help=DEFAULT_MODEL)
    _add_computing(parser)


def _add_computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, metavar="N", help="at most so many for large products")
    parser.add_argument("--ops", choices=("native", "numpy"), help="implementation of the arithmetic")


def _add_options(parser: argparse.ArgumentParser) -> None:
    """The fields of sopro_np.options.Options; what is not given keeps its default there."""
    group = parser.add_argument_group("generation")
    kinds: dict[str, Callable[[str], Any]] = {"F": float, "N": int, "N|all": _frames, "FILE": _lexicon}
    for option in fields(Options):
        letter, text = option.metadata["letter"], option.metadata["help"]
        name = option.name.replace("_", "-")
        if letter in ("yes", "no"):
            flag = f"--no-{name}" if letter == "no" else f"--{name}"
            more: dict[str, Any] = {"action": "store_const", "const": letter == "yes", "dest": option.name}
        else:
            flag, more = f"--{name}", {"type": kinds[letter], "metavar": letter}
            text += f" ({option.default})" if option.default is not None else ""
        group.add_argument(flag, default=argparse.SUPPRESS, help=text, **more)


def _lexicon(path: str) -> dict[str, str]:
    from sopro_np.text.normalise import read_lexicon

    return read_lexicon(path)


def _counts(text: str) -> list[int]:
    words = text.split(",")
    if not all(re.fullmatch("[0-9]{1,4}", word) and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers from 1 to 9999 are needed, with commas between them")
    return [int(word) for word in words]


def _frames(text: str) -> int | None:
    try:
        return None if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number, or all") from None


def normalise(argv: Sequence[str]) -> list[str]:
    """--top_p=0.9 -> --top-p=0.9; values and texts are left alone."""
    out: list[str] = []
    for word in argv:
        name, equals, value = word.partition("=")
        out.append(name.replace("_", "-") + equals + value if name.startswith("--") and " " not in name else word)
        if word == "--":
            return [*out, *argv[len(out) :]]
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 (failed) or 2 (usage)."""
    words = normalise(sys.argv[1:] if argv is None else argv)
    return process.run(lambda: _run(build_parser().parse_args(words)))


def _run(args: argparse.Namespace) -> int:
    """Commands are imported when they are called: each needs other parts."""
    if getattr(args, "quiet", False):
        process.hush()
    if args.command == "say" and args.out == "-":
        process.check_stdout()
    if args.command == "say":
        from sopro_np.cli.say import say as command
    elif args.command == "voice":
        from sopro_np.cli.say import make_voice as command
    elif args.command == "text":
        from sopro_np.cli.text import text as command
    elif args.command == "info":
        from sopro_np.cli.info import info as command
    elif args.command == "doctor":
        from sopro_np.cli.doctor import doctor as command
    elif args.command == "download":
        from sopro_np.cli.download import run as command
    elif args.command == "eval":
        from sopro_np.cli.evaluate import run as command
    else:
        from sopro_np.cli.bench import run as command
    return command(args)
