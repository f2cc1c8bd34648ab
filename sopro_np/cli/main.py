"""`sopro-np`: arguments in, exit code out. Audio and JSON go to stdout, everything else to stderr."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from sopro_np.cli.parser import build_parser, normalise
from sopro_np.errors import SoproError

__all__ = ["build_parser", "main", "normalise"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 (failed) or 2 (usage)."""
    args = build_parser().parse_args(normalise(sys.argv[1:] if argv is None else argv))
    with suppress(ValueError):  # not in the main thread: somebody else looks after signals
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that temporary files go
    try:
        with _notices(args):
            code = _run(args)
        sys.stdout.flush()  # a closed pipe is noticed here, not when Python exits
        return code
    except SoproError as error:
        print(f"sopro-np: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader has heard enough. Nothing may be flushed into the closed pipe when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"sopro-np: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sopro-np: interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        print("sopro-np: out of memory; try a smaller recipe (int8) or fewer frames", file=sys.stderr)
        return 1


@contextmanager
def _notices(args: argparse.Namespace) -> Iterator[None]:
    """What the library tells is for those who hear speech of it, unless they want quiet."""
    logger = logging.getLogger("sopro_np")
    before = logger.level
    if getattr(args, "quiet", False) or args.command not in ("say", "voice", "bench", "eval"):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _run(args: argparse.Namespace) -> int:
    """Commands are imported when they are called: each needs other parts."""
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
        from sopro_np.cli.say import make_voice as command
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
