"""`sopro-np`: arguments in, exit code out. Audio and JSON go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sopro_np.cli import process
from sopro_np.cli.parser import build_parser, normalise

__all__ = ["build_parser", "main", "normalise"]


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
    elif args.command == "help":
        build_parser().parse_args([args.topic, "--help"] if args.topic else ["--help"])
    elif args.command == "completion":
        from sopro_np.cli.completion import run as command
    elif args.command == "voices":
        from sopro_np.cli.voices import run as command
    elif args.command == "convert":
        from sopro_np.cli.convert import run as command
    elif args.command == "voice":
        from sopro_np.cli.voices import make_voice as command
    elif args.command == "batch":
        from sopro_np.cli.batch import run as command
    elif args.command == "text":
        from sopro_np.cli.text import text as command
    elif args.command == "info":
        from sopro_np.cli.info import info as command
    elif args.command == "doctor":
        from sopro_np.cli.doctor import doctor as command
    elif args.command == "download":
        from sopro_np.cli.download import run as command
    elif args.command == "serve":
        from sopro_np.cli.serve import run as command
    elif args.command == "eval":
        from sopro_np.cli.evaluate import run as command
    else:
        from sopro_np.cli.bench import run as command
    return command(args)
