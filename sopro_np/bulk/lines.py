"""What is to be spoken: a file with a line for each utterance, as JSONL, as LJSpeech (id|text), or plain text.

A line that is no good is told as such, with a reason, and holds up no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sopro_np.errors import NothingToSay, UsageError
from sopro_np.options import whole
from sopro_np.speech import check_text

MAX_LINE_BYTES = 1 << 24
LOOKED_AT = 100  # lines that decide what kind of file it is
BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
FORMS = ("jsonl", "ljspeech", "plain")
ID = re.compile(r"[A-Za-z0-9_][\w.+-]{0,127}", re.ASCII)  # the name of a file in any folder, never a path
FIELDS = ("id", "text", "voice", "seed")


@dataclass(frozen=True, slots=True)
class Line:
    """An utterance that is wanted. number: in the file, from 1; voice, seed: None where the line says nothing of it;
    name: what a seed is derived from, the id, or of a plain line, which has none of its own, the text."""

    number: int
    id: str
    text: str
    voice: str | None
    seed: int | None
    name: str


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be spoken, and why. id: as far as it could be read."""

    number: int
    id: str | None
    problem: str


class _Bad(Exception):
    """What is wrong with a line; its id, if that much is known."""

    def __init__(self, problem: str, id: str | None = None) -> None:
        super().__init__(problem)
        self.id = id


def read_lines(source: BinaryIO, name: str, form: str | None = None) -> list[Line | BadLine]:
    """All lines that are not blank, in order. `form`: one of FORMS, else told by the ending of `name`, else by a look.

    NothingToSay if there is none, UsageError for a file in UTF-16.
    """
    raw = [(number, line) for number, line in _raw_lines(source, name) if line is None or line.strip()]
    if not raw:
        raise NothingToSay(f"{name}: is empty: there is nothing to say")
    chosen = form or _guess(name, [line for _, line in raw[:LOOKED_AT] if line])
    found: list[Line | BadLine] = []
    places: dict[str, int] = {}  # id -> the line that has it
    for number, line in raw:
        read: Line | BadLine
        try:
            read = _read(number, line, chosen)
        except _Bad as bad:
            read = BadLine(number, bad.id, str(bad))
        if read.id is not None and (first := places.setdefault(read.id, number)) != number:
            read = BadLine(number, read.id, f"the id {read.id!r} stands in line {first} already: give it another one")
        found.append(read)
    return found


def _raw_lines(source: BinaryIO, name: str) -> Iterator[tuple[int, bytes | None]]:
    """(number, line without its end); None for one that is too long, which is passed over."""
    number = 0
    while raw := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            if raw.startswith(UTF16):
                raise UsageError(f"{name}: is UTF-16: save it as UTF-8")
            raw = raw.removeprefix(BOM)
        whole_line = len(raw) <= MAX_LINE_BYTES or raw.endswith(b"\n")
        for line in raw.removesuffix(b"\n").removesuffix(b"\r").split(b"\r") if whole_line else [None]:
            yield number, line
            number += 1
        number -= 1
        while raw and not raw.endswith(b"\n"):
            raw = source.readline(MAX_LINE_BYTES)


def _guess(name: str, lines: list[bytes]) -> str:
    """What most of these lines look like."""
    if Path(name).suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return "jsonl"
    like_json = sum(line.lstrip().startswith(b"{") for line in lines)
    like_ljspeech = sum(re.match(rb"[^\s|]+\|", line) is not None for line in lines)
    return "jsonl" if 2 * like_json > len(lines) else "ljspeech" if 2 * like_ljspeech > len(lines) else "plain"


def _read(number: int, raw: bytes | None, form: str) -> Line:
    if raw is None:
        raise _Bad(f"longer than {MAX_LINE_BYTES >> 20} MiB: split it")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Bad(f"is not UTF-8 ({error.reason} at byte {error.start})") from None
    if form == "jsonl":
        return _from_json(number, text)
    if form == "ljspeech":
        id, bar, rest = text.partition("|")
        if not bar:
            raise _Bad("no | in it: id|text is needed (of a file of plain lines: --input plain)")
        return _checked(number, id.strip(), rest.partition("|")[0].strip(), None, None, None)
    return _checked(number, f"{number:06}", text.strip(), None, None, text.strip())


def _from_json(number: int, text: str) -> Line:
    try:
        fields = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError:
        raise _Bad("is not JSON: nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise _Bad(f"is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise _Bad('must be an object, as in {"id": "a1", "text": "Hello."}')
    id = fields.get("id")
    known = id if isinstance(id, str) and ID.fullmatch(id) else None
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise _Bad(f"unknown {', '.join(map(repr, unknown))}: a line has {', '.join(FIELDS)}", known)
    for name, needed in (("id", True), ("text", True), ("voice", False)):
        value = fields.get(name)
        if value is None and needed:
            raise _Bad(f"has no {name!r}", known)
        if value is not None and not isinstance(value, str):
            raise _Bad(f"{name!r} must be a string, not {json.dumps(value)[:40]}", known)
    return _checked(number, fields["id"], fields["text"], fields.get("voice"), fields.get("seed"), None)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name stands in it twice")
    return fields


def _checked(number: int, id: str, text: str, voice: str | None, seed: Any, name: str | None) -> Line:
    if not ID.fullmatch(id):
        raise _Bad(f"the id {id[:80]!r} is no name: 1 to 128 letters, digits and _ . + - (no . + - first)")
    try:
        check_text(text)
        if voice is not None and not voice:
            raise UsageError("'voice' is empty: leave it out, or name one")
        return Line(number, id, text, voice, whole("seed", seed, 0, None), id if name is None else name)
    except UsageError as error:
        raise _Bad(str(error), id) from None
