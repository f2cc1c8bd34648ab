"""Events of the Wyoming protocol on the wire: a line of JSON, then data (JSON) and a payload of the lengths it says.

Why not the package `wyoming`: it is small (45 kB, pure Python, needs nothing else), but its reader believes whatever
lengths a peer names, ends a connection without a word over what is no JSON, with a traceback over JSON that is no
object, and knows no time limit: a server has to have its own. What would be left of it is the names of a dozen fields,
for 50 ms and 5 MB at every start. So this is all of it; tests/test_wyoming_events.py holds it to the package in
both directions.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from sopro_np.errors import FormatError

MOST_LINE = 1 << 16  # bytes of the line
MOST_DATA = 1 << 18  # of the data, unless texts may be longer
MOST_PAYLOAD = 1 << 18  # of the payload, which nothing that is asked for here has

LINGER = 1.0  # seconds


class EventError(FormatError):
    """An event is not understood. `lost`: nor is where it ends, so that nothing after it can be read."""

    def __init__(self, message: str, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost


@dataclass(frozen=True)
class Event:
    """What one side tells the other: its type, named values, and bytes (audio)."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


def encode(event: Event) -> bytes:
    """Event -> bytes on the wire. The JSON is ASCII: also half a surrogate pair can be written that way."""
    line: dict[str, Any] = {"type": event.type}
    data = json.dumps(event.data).encode("ascii") if event.data else b""
    if data:
        line["data_length"] = len(data)
    if event.payload:
        line["payload_length"] = len(event.payload)
    return json.dumps(line).encode("ascii") + b"\n" + data + event.payload


async def read_event(
    reader: asyncio.StreamReader, idle: float, receiving: float, most_data: int = MOST_DATA
) -> Event | None:
    """The next event, or None where they end. The reader has to be made with `limit=MOST_LINE`.

    It may take `idle` seconds until it begins (TimeoutError), and `receiving` seconds from its first byte to its last.
    EventError for what is no event, is too long, too slow, or cut off.
    """
    async with asyncio.timeout(idle):
        first = await reader.read(1)
    if not first:
        return None
    try:
        async with asyncio.timeout(receiving):
            return await _rest(first, reader, most_data)
    except TimeoutError:
        raise EventError(f"an event took longer than {receiving:g} s to arrive", lost=True) from None
    except asyncio.IncompleteReadError:
        raise EventError("the connection ended in the middle of an event", lost=True) from None
    except asyncio.LimitOverrunError:
        raise EventError(f"the line of an event is longer than {MOST_LINE} bytes", lost=True) from None


async def _rest(first: bytes, reader: asyncio.StreamReader, most_data: int) -> Event:
    raw = first if first == b"\n" else first + await reader.readuntil(b"\n")
    line = _parsed(raw, "line", lost=True)
    sizes = [_length(line, name, most) for name, most in (("data", most_data), ("payload", MOST_PAYLOAD))]
    more, payload = [await reader.readexactly(size) for size in sizes]
    data = line.get("data")  # older peers have it in the line; both is allowed
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise EventError("the data of an event must be a JSON object")
    if more:
        data = {**data, **_parsed(more, "data", lost=False)}
    if not isinstance(line.get("type"), str):
        raise EventError("an event must have a type, a string")
    return Event(line["type"], data, payload)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End a connection so that what was said last arrives: it would be lost if something unread were there still."""
    try:
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(LINGER):
            while await reader.read(MOST_LINE):
                pass
    except OSError:  # gone, or still sending
        pass
    finally:
        writer.close()


def _parsed(raw: bytes, what: str, lost: bool) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise EventError(f"the {what} of an event is no JSON", lost) from None
    if not isinstance(value, dict):
        raise EventError(f"the {what} of an event must be a JSON object", lost)
    return value


def _length(line: dict[str, Any], part: str, most: int) -> int:
    size = line.get(f"{part}_length")
    if size is None:
        return 0
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= most:
        shown = f"{size!r:.30}"
        raise EventError(f"{part}_length is {shown}: it must be a whole number from 0 to {most}", lost=True)
    return size
