"""Limits of one HTTP request, enforced while it is read: nothing is believed, nothing is buffered beyond them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from sopro_np.serve.answers import CLOSE, Refusal
from sopro_np.serve.samples import BYTES, SECONDS

MARGIN = 64 << 10  # bytes of a body beside what it is about


@dataclass(frozen=True)
class Limits:
    """characters of a text; bytes and seconds of a recording; connections at once; uploads at once."""

    characters: int = 4096
    sample_bytes: int = BYTES
    sample_seconds: float = SECONDS
    connections: int = 256
    uploads: int = 2

    @property
    def json_bytes(self) -> int:
        """Of a request to speak: every character may be written as two escapes of six bytes."""
        return MARGIN + 12 * self.characters


async def read_body(request: Request, most: int) -> bytes:
    """The body, if it has at most `most` bytes; else it is not read any further."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > most:
        _too_large(most)
    parts, total = [], 0
    try:
        async for part in request.stream():
            total += len(part)
            if total > most:
                _too_large(most)
            parts.append(part)
    except ClientDisconnect:
        raise Refusal(400, "the request was cut off", "incomplete", headers=CLOSE) from None
    return b"".join(parts)


def _too_large(most: int) -> NoReturn:
    raise Refusal(413, f"the body is larger than {most} bytes", "body_too_large", headers=CLOSE)


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object; 400 for anything else, NaN and infinity too."""
    try:
        value = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body must be JSON", "invalid_json") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body must be a JSON object", "invalid_json")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 40  # there may be no disk to write to; the body was bounded before


async def read_form(headers: Headers, body: bytes) -> FormData:
    """The parts of a multipart body."""
    if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(400, "multipart/form-data with name, audio_sample and consent is needed", "invalid_form")

    async def stream() -> Any:
        yield body
        yield b""

    try:
        return await _InMemory(headers, stream(), max_files=4, max_fields=16, max_part_size=MARGIN).parse()
    except (MultiPartException, ValueError, KeyError, LookupError) as error:
        why = error.message if isinstance(error, MultiPartException) else "it is damaged"
        raise Refusal(400, f"the form cannot be read: {why}", "invalid_form") from None
