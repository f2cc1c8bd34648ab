"""Wyoming on the wire: what the package writes is read and the other way round; nothing else gets far."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wyoming.event import Event as Theirs
from wyoming.event import async_read_event, async_write_event

from sopro_np.serve.wyoming_events import MOST_DATA, MOST_LINE, MOST_PAYLOAD, Event, EventError, encode, read_event

KEYS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DATA = st.dictionaries(KEYS, JSON, max_size=4)
EVENTS = st.tuples(st.text(max_size=20), DATA, st.binary(max_size=100))


def reader(data: bytes, end: bool = True) -> asyncio.StreamReader:
    stream = asyncio.StreamReader(limit=MOST_LINE)
    stream.feed_data(data)
    if end:
        stream.feed_eof()
    return stream


def ours(data: bytes) -> list[Event | EventError]:
    """All that our reader finds, up to the end or an error after which nothing can be read."""

    async def read() -> list[Event | EventError]:
        stream, found = reader(data), []
        while True:
            try:
                event = await read_event(stream, 5, 5)
            except EventError as error:
                found.append(error)
                if error.lost:
                    return found
                continue
            if event is None:
                return found
            found.append(event)

    return asyncio.run(read())


def theirs(data: bytes, most: int | None = None) -> list[Theirs]:
    """What the package reads; most: no further, for it raises what it likes at damaged bytes."""

    async def read() -> list[Theirs]:
        stream, found = reader(data), []
        while len(found) != most and (event := await async_read_event(stream)) is not None:
            found.append(event)
        return found

    return asyncio.run(read())


class Sink:
    """What the package writes to."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def writelines(self, lines: Any) -> None:
        self.data += b"".join(lines)

    async def drain(self) -> None:
        pass


@given(st.lists(EVENTS, max_size=4))
def test_what_the_package_writes_is_read(events: list[tuple[str, dict[str, Any], bytes]]) -> None:
    sink = Sink()
    for kind, data, payload in events:
        asyncio.run(async_write_event(Theirs(kind, data, payload), sink))  # type: ignore[arg-type]
    assert ours(sink.data) == [Event(*event) for event in events]


@given(st.lists(EVENTS, max_size=4))
def test_what_is_written_the_package_reads(events: list[tuple[str, dict[str, Any], bytes]]) -> None:
    data = b"".join(encode(Event(*event)) for event in events)
    assert [(e.type, e.data, e.payload or b"") for e in theirs(data)] == events
    assert ours(data) == [Event(*event) for event in events]


@given(DATA, DATA)
def test_data_in_the_line_and_behind_it(inside: dict[str, Any], behind: dict[str, Any]) -> None:
    more = json.dumps(behind).encode()
    data = json.dumps({"type": "x", "data": inside, "data_length": len(more)}).encode() + b"\n" + more
    [event] = theirs(data)
    assert ours(data) == [Event("x", event.data)]


def test_null_is_as_if_it_were_not_there() -> None:
    """Peers in languages with optional fields write them so."""
    line = json.dumps({"type": "x", "version": None, "data": None, "data_length": None, "payload_length": None})
    assert ours(line.encode() + b"\n") == [Event("x", {})]


@given(st.data())
def test_what_is_taken_from_damaged_bytes_the_package_takes_too(data: st.DataObject) -> None:
    """Never anything but an EventError; and where ours finds an event the package finds the same one."""
    raw = bytearray(b"".join(encode(Event(*e)) for e in data.draw(st.lists(EVENTS, min_size=1, max_size=3))))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not raw:
            return
    found = ours(bytes(raw))
    good = found[: next((i for i, e in enumerate(found) if isinstance(e, EventError)), len(found))]
    if good:
        expected = theirs(bytes(raw), len(good))
        assert good == [Event(e.type, e.data, e.payload or b"") for e in expected]


@pytest.mark.parametrize("part", ["data", "payload"])
@pytest.mark.parametrize("size", [-1, 1 << 62, 10**30, 1.0, "3", True, [1], {}, float("inf"), 1 << 18 | 1])
def test_lengths_are_not_believed(part: str, size: Any) -> None:
    line = json.dumps({"type": "synthesize", f"{part}_length": size}).encode() + b"\n"
    [error] = ours(line + b"{}" * 100)
    assert isinstance(error, EventError)
    assert error.lost
    assert f"{part}_length" in str(error)


@pytest.mark.parametrize(
    ("raw", "lost"),
    [
        (b"\n", True),
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"[1]\n", True),
        (b"\xff\xfe\n", True),
        (b"[" * 60000 + b"\n", True),
        (b'{"n": ' + b"9" * 5000 + b"}\n", True),
        (b"{" * (MOST_LINE + 10), True),
        (b'{"type": "describe"}', True),
        (b'{"type": "x", "data_length": 10}\n{}', True),
        (b'{"type": "x", "data_length": 2}\n[]', False),
        (b'{"type": "x", "data_length": 2}\n{{', False),
        (b'{"type": "x", "data_length": 90000}\n' + b"[" * 90000, False),
        (b'{"type": "x", "data": 3}\n', False),
        (b'{"type": 3, "data_length": 2, "payload_length": 3}\n{}abc', False),
        (b"{}\n", False),
    ],
)
def test_what_is_no_event(raw: bytes, lost: bool) -> None:
    """Where its end is known, the next one is read."""
    found = ours(raw + b'{"type": "describe"}\n' if not lost else raw)
    assert isinstance(found[0], EventError)
    assert found[0].lost is lost
    assert found[1:] == ([] if lost else [Event("describe")])


def test_the_longest_are_read() -> None:
    event = Event("synthesize", {"text": "a" * (MOST_DATA - 12)}, b"p" * MOST_PAYLOAD)
    assert len(encode(event)) > MOST_DATA + MOST_PAYLOAD
    assert ours(encode(event)) == [event]
    line = b'{"type": "x"' + b" " * (MOST_LINE - 14) + b"}\n"
    assert ours(line) == [Event("x")]


def test_an_event_has_to_arrive_in_time() -> None:
    async def slow(data: bytes) -> None:
        stream = reader(data, end=False)
        if not data:
            with pytest.raises(TimeoutError):
                await read_event(stream, 0.02, 60)
            return
        with pytest.raises(EventError, match=r"longer than 0\.02 s") as found:
            await read_event(stream, 60, 0.02)
        assert found.value.lost

    for data in (b"", b"{", b'{"type": "x", "data_length": 5}\n', b'{"type": "x", "payload_length": 5}\n1234'):
        asyncio.run(slow(data))
