"""What `say` is given to say: words of the command line, a file, or standard input, whole or line by line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from sopro_np.cli.progress import watched
from sopro_np.errors import UsageError
from sopro_np.speech import check_text

MAX_TEXT_BYTES = 1 << 20  # of a text, and of a line
BOM = b"\xef\xbb\xbf"


def read_texts(words: Sequence[str], file: str | None, lines: bool, quiet: bool = False) -> Iterator[str]:
    """Texts in order. One, and there is something in it; with `lines` any number, each as soon as it can be read.

    Several words are one text with spaces in between. UsageError if there is none, or more than one source.
    """
    if words and file is not None:
        raise UsageError("give either a TEXT or --file FILE, not both")
    if file is None and (list(words) == ["-"] or (lines and not words)):
        file = "-"
    if file is None:
        if not words:
            raise UsageError('no TEXT to say: give it in quotes ("Hello there."), - for standard input, or --file FILE')
        if lines:
            raise UsageError("--lines reads from standard input or --file FILE: leave the TEXT out")
        text = " ".join(words)
        check_text(text)
        return iter([text])
    name = "the text on standard input" if file == "-" else file
    source = _standard_input(quiet) if file == "-" else _open(file)
    return _each_line(source, name) if lines else iter([_whole(source, name)])


def _standard_input(quiet: bool) -> BinaryIO:
    if sys.stdin is None:
        raise UsageError("standard input is closed; give the text as an argument")
    if sys.stdin.isatty() and watched() and not quiet:
        print("sopro-np: type what to say; Ctrl-D on an empty line ends it", file=sys.stderr)
    return sys.stdin.buffer


def _open(file: str) -> BinaryIO:
    try:
        return Path(file).expanduser().open("rb")
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; ~ of nobody
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--file {file}: cannot be read ({reason}); name a text file") from None


def _whole(source: BinaryIO, name: str) -> str:
    raw = source.read(MAX_TEXT_BYTES + 1)
    if len(raw) > MAX_TEXT_BYTES:
        raise UsageError(f"{name}: is longer than 1 MiB: split it")
    text = _decoded(raw.removeprefix(BOM), name).removesuffix("\n").removesuffix("\r")  # what an editor or echo adds
    if not text.strip():
        raise UsageError(f"{name}: is empty: there is nothing to say")
    return text


def _each_line(source: BinaryIO, name: str) -> Iterator[str]:
    """Lines with something in them, while whoever writes them still does."""
    found, number = False, 0
    while raw := source.readline(MAX_TEXT_BYTES + 1):
        number += 1
        if len(raw) > MAX_TEXT_BYTES:
            raise UsageError(f"{name}: line {number} is longer than 1 MiB: split it")
        text = _decoded(raw.removeprefix(BOM) if number == 1 else raw, f"{name}: line {number}").strip()
        if text:
            found = True
            yield text
    if not found:
        raise UsageError(f"{name}: is empty: there is nothing to say")


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not UTF-8 ({error.reason} at byte {error.start})") from None
