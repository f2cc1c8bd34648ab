"""What `say` is given to say: words, a file, or standard input; whole, line by line or by sentences."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from sopro_np.cli.progress import watched
from sopro_np.errors import NothingToSay, UsageError
from sopro_np.speech import check_text
from sopro_np.text.sayable import PAUSE_FORM, seconds

MAX_TEXT_BYTES = 1 << 26
MAX_LINE_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Text:
    """What is to be said; where it stands, for messages ("line 3"); why it cannot be read."""

    text: str
    where: str = "the text"
    problem: UsageError | None = None


def reads_stdin(words: Sequence[str], file: str | None, each: str | None) -> bool:
    """Does the text come from standard input?"""
    return file == "-" or (file is None and (list(words) == ["-"] or (each is not None and not words)))


def read_texts(words: Sequence[str], file: str | None, each: str | None = None, quiet: bool = False) -> Iterator[Text]:
    """Texts in order. One, and there is something in it; each "lines" or "sentences": as soon as one can be read.

    Several words are one text with spaces in between. UsageError if there is none, or more than one source.
    """
    if words and file is not None:
        raise UsageError("give either a TEXT or --file FILE, not both")
    piped = reads_stdin(words, file, each)
    if file is None and not piped:
        if not words:
            raise UsageError('no TEXT to say: give it in quotes ("Hello there."), - for standard input, or --file FILE')
        if each:
            raise UsageError(f"--{each} reads from standard input or --file FILE: leave the TEXT out")
        text = " ".join(words)
        check_text(text)
        return iter([Text(text)])
    name = "the text on standard input" if piped else str(file)
    source = _standard_input(quiet) if piped else _open(str(file))
    if each is None:
        return iter([Text(_whole(source, name))])
    return _found(_each_line(source, name) if each == "lines" else _each_sentence(source, name), name)


def only_pauses(text: str) -> float | None:
    """Seconds of a text that is nothing but marks of pauses; None: it is more than that."""
    if PAUSE_FORM.sub("", text).strip():
        return None
    return sum(seconds(mark) for mark in PAUSE_FORM.finditer(text))


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
        raise UsageError(f"{name}: is longer than {_mib(MAX_TEXT_BYTES)}: split it")
    text = _decoded(raw.removeprefix(BOM), name).removesuffix("\n").removesuffix("\r")  # what an editor or echo adds
    if not text.strip():
        raise NothingToSay(f"{name}: is empty: there is nothing to say")
    return text


def _found(texts: Iterator[Text], name: str) -> Iterator[Text]:
    """Those that are not blank; UsageError at the end if all were."""
    found = False
    for text in texts:
        if text.problem or text.text.strip():
            found = True
            yield replace(text, text=text.text.strip())
    if not found:
        raise NothingToSay(f"{name}: is empty: there is nothing to say")


def _each_line(source: BinaryIO, name: str) -> Iterator[Text]:
    """Lines, while whoever writes them still does. The first line tells whether it is UTF-8 at all."""
    number = 0
    while raw := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise UsageError(f"{name}: line {number} is longer than {_mib(MAX_LINE_BYTES)}: split it")
        where = f"line {number}"
        if number == 1:
            yield Text(_decoded(raw.removeprefix(BOM), f"{name}: {where}"), where)
            continue
        try:
            yield Text(_decoded(raw, "it"), where)
        except UsageError as problem:
            yield Text("", where, problem)


def _each_sentence(source: BinaryIO, name: str) -> Iterator[Text]:
    """Sentences, while whoever writes them still does: each as soon as the next one begins, or its line ends."""
    from sopro_np.text.growing import Growing  # here and not above: rarely wanted

    decoder, growing, number = codecs.getincrementaldecoder("utf-8-sig")(), Growing(), 0
    read = getattr(source, "read1", source.read)  # what is there already, not a whole block
    while True:
        raw = read(1 << 16)
        try:
            text = decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            raise UsageError(f"{name}: is not UTF-8 ({error.reason})") from None
        for sentence in chain(growing.push(text), () if raw else growing.end()):
            number += 1
            yield Text(sentence, f"sentence {number}")
        if not raw:
            return


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not UTF-8 ({error.reason} at byte {error.start})") from None


def _mib(size: int) -> str:
    return f"{size >> 20} MiB"
