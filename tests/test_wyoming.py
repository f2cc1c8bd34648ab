"""Wyoming, asked by the package's own client: every voice, every sample; in any order, in any pieces, under abuse."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import socket
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny as models
from conftest import Tiny, on_kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info, SelectProgram
from wyoming.ping import Ping
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from sopro_np.errors import UsageError
from sopro_np.options import Options
from sopro_np.script import Part, sentences
from sopro_np.serve import wyoming_conversation as conversation
from sopro_np.serve import wyoming_stream
from sopro_np.serve.run import bind
from sopro_np.serve.scheduler import Scheduler
from sopro_np.serve.service import Service
from sopro_np.serve.voices import VoiceShelf
from sopro_np.serve.wyoming import WyomingServer
from sopro_np.serve.wyoming_stream import TextStream
from sopro_np.wav import pcm16

pytestmark = on_kernels
SEED = 11
SHORT: dict[str, Any] = {
    "max_frames": 5,
    "min_gen_frames": 5,
    "chunk_frames": 2,
    "guard": False,
    "pause": 0.1,
}  # it never ends by itself
LONG: dict[str, Any] = {**SHORT, "max_frames": 390, "chunk_frames": 1, "lookahead": 0}
TEXT = "Hello there, all of you. Yes. I have three cats at home.\n\nThey are well, thank you."
HELLO = "Hello there."
OTHERS = ["One.", "Two of them.", "Where were you? I was at home all day long.", "It costs $5.", HELLO]
PATIENCE = 60.0  # seconds after which something is held to be lost


def few() -> int:
    """How many examples of a test that speaks."""
    return settings.default.max_examples * 2 // 5


class Place:
    """A model, its scheduler and voices, and what it says."""

    def __init__(self, m: Tiny, folder: Path) -> None:
        self.tts, self.voice, self.folder = m.tts, m.voice, folder
        m.voice.save(folder / "me.voice.safetensors")
        self.shelf = VoiceShelf(m.tts, folder, "me")
        self.scheduler = Scheduler(m.tts)
        self.scheduler.start()
        self._said: dict[str, bytes] = {}

    def pcm(self, text: str) -> bytes:
        """What `synthesize` says."""
        if text not in self._said:
            self._said[text] = pcm16(self.tts.synthesize(text, self.voice, seed=SEED, **SHORT))
        return self._said[text]

    @asynccontextmanager
    async def serving(self, options: dict[str, Any] = SHORT, **more: Any) -> AsyncIterator[tuple[str, int]]:
        """A server at a free port -> its address."""
        service = Service(self.tts, more.pop("scheduler", self.scheduler), more.pop("shelf", self.shelf), seed=SEED)
        service.seed, service.options = more.pop("seed", SEED), options
        with bind("127.0.0.1", 0) as listening:
            server = WyomingServer(service, listening, drain=PATIENCE, **more)
            async with server:
                yield listening.getsockname()[:2]
            assert not server._open

    async def idle(self) -> None:
        """Until no request waits or runs."""
        async with asyncio.timeout(PATIENCE):
            while (stats := self.scheduler.stats())["running"] or stats["waiting"]:
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def place(tiny: Callable[..., Tiny], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    here = Place(tiny("v1.5", "int8"), tmp_path_factory.mktemp("voices"))
    while not here.scheduler.ready:
        assert here.scheduler.failure is None
    yield here
    assert here.scheduler.drain(PATIENCE)


def run(work: Awaitable[Any], seconds: float = 2 * PATIENCE) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await work

    return asyncio.run(bounded())


async def read(client: AsyncTcpClient) -> Event:
    event = await asyncio.wait_for(client.read_event(), PATIENCE)
    assert event is not None, "the connection was ended"
    return event


async def until(client: AsyncTcpClient, last: str) -> list[Event]:
    events = [await read(client)]
    while events[-1].type != last:
        assert events[-1].type != "error" or last == "error", events[-1].data
        events.append(await read(client))
    return events


def audio(events: list[Event]) -> bytes:
    """PCM of one answer, whose form is checked."""
    assert AudioStart.from_event(events[0]) == AudioStart(24000, 2, 1)
    assert AudioStop.is_type(events[-1].type)
    chunks = [AudioChunk.from_event(event) for event in events[1:-1]]
    assert chunks and all((c.rate, c.width, c.channels) == (24000, 2, 1) and c.audio for c in chunks)
    return b"".join(chunk.audio for chunk in chunks)


async def said(client: AsyncTcpClient) -> bytes:
    return audio(await until(client, "audio-stop"))


def asked(text: str, name: str | None = None) -> Event:
    return Synthesize(text, SynthesizeVoice(name) if name else None).event()


def streamed(pieces: list[str], again: bool = True) -> list[Event]:
    """The events of a text in pieces, as Home Assistant sends them: with the whole text once more."""
    events = [SynthesizeStart().event(), *(SynthesizeChunk(piece).event() for piece in pieces)]
    return [*events, *([asked("".join(pieces))] if again else []), SynthesizeStop().event()]


def cut(text: str, spots: set[int]) -> list[str]:
    places = sorted(spot for spot in spots if spot < len(text))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


# ---------------------------------------------------------------- info


def test_info_has_the_voices_that_are_there_now(place: Place) -> None:
    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            recording, found = place.folder / "dropped-in.wav", []
            for there in (False, True, False):
                if there:
                    shutil.copy(models.checkpoint("v1.5", 5) / "ref.wav", recording)
                else:
                    recording.unlink(missing_ok=True)
                await client.write_event(Describe().event())
                [program] = Info.from_event(await read(client)).tts
                assert program.installed and program.supports_synthesize_streaming
                assert all(voice.installed and voice.languages == ["en"] for voice in program.voices)
                found.append([voice.name for voice in program.voices])
                assert found[-1] == place.shelf.names()
                if there:
                    await client.write_event(asked(HELLO, "dropped-in"))
                    voice = place.tts.voice(recording)
                    expected = place.tts.synthesize(HELLO, voice, seed=SEED, **SHORT)
                    assert await said(client) == pcm16(expected)
            assert found == [["me"], ["me", "dropped-in"], ["me"]]

    run(work())


def test_info_without_a_voice(place: Place, tmp_path: Path) -> None:
    async def work() -> None:
        shelf = VoiceShelf(place.tts, tmp_path)
        async with place.serving(shelf=shelf) as address, AsyncTcpClient(*address) as client:
            await client.write_event(Describe().event())
            assert Info.from_event(await read(client)).tts[0].voices == []
            await client.write_event(asked(HELLO))
            assert Error.from_event(await read(client)).code == "UnknownVoice"

    run(work())


# ---------------------------------------------------------------- the same samples


def test_what_is_said_is_what_synthesize_says(place: Place) -> None:
    """Alone, and beside fifteen others."""

    async def ask(address: tuple[str, int], text: str, stream: bool) -> None:
        async with AsyncTcpClient(*address) as client:
            for event in streamed(cut(text, {3, 20, 40})) if stream else [asked(text, "me")]:
                await client.write_event(event)
            assert await said(client) == place.pcm(text)
            if stream:
                assert SynthesizeStopped.is_type((await read(client)).type)

    async def work() -> None:
        async with place.serving() as address:
            await ask(address, TEXT, False)
            await ask(address, TEXT, True)
            texts = [TEXT, *OTHERS, TEXT, *OTHERS, *OTHERS[:4]]
            await asyncio.gather(*(ask(address, text, i % 2 == 0) for i, text in enumerate(texts)))

    run(work())


@settings(max_examples=few())
@given(st.sets(st.integers(1, len(TEXT)), max_size=30), st.booleans())
def test_a_text_in_any_pieces_sounds_like_the_whole(place: Place, spots: set[int], again: bool) -> None:
    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            for event in streamed(cut(TEXT, spots), again):
                await client.write_event(event)
            events = await until(client, "synthesize-stopped")
            assert audio(events[:-1]) == place.pcm(TEXT)

    run(work())


def test_a_character_that_was_cut_in_two_is_whole_again() -> None:
    """Strings of JavaScript are cut between two halves of an emoji, and sent so."""
    text = "Hello \U0001f600 there.\U0001f680"
    halves = [text.encode("utf-16-le")[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, 34, 2)]

    async def work(pieces: list[str], most: int = 100) -> list[Part]:
        stream = TextStream(None, lambda text: sentences(text, Options(), lambda _: True), most)
        for piece in pieces:
            await stream.push({"text": piece})
        await stream.stop()
        return [part async for part in stream.parts()]

    assert len(halves) == len(text) + 2
    assert run(work(halves)) == run(work([text])) == run(work(halves, len(text)))
    for bad in ([*halves, "\ud83d"], [*halves[:7], *halves[8:]], ["\ud83d"], [*halves[:7], halves[6], *halves[7:]]):
        with pytest.raises(UsageError, match="surrogate"):
            run(work(bad))
    with pytest.raises(UsageError, match="too long"):
        run(work(halves, len(text) - 1))


def test_the_first_sentence_is_heard_before_the_second_is_there(place: Place) -> None:
    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            head, tail = TEXT[:50], TEXT[50:]
            for event in streamed([head])[:2]:
                await client.write_event(event)
            heard = [await read(client) for _ in range(2)]
            assert [event.type for event in heard] == ["audio-start", "audio-chunk"]
            for event in streamed([tail])[1:]:
                await client.write_event(event)
            heard += await until(client, "audio-stop")
            assert audio(heard) == place.pcm(TEXT)

    run(work())


REQUESTS = st.lists(
    st.tuples(st.sampled_from([HELLO, *OTHERS]), st.sampled_from(["whole", "stream", "once", "info"])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=few())
@given(REQUESTS, st.booleans())
def test_several_requests_on_one_connection(place: Place, requests: list[tuple[str, str]], wait: bool) -> None:
    """Streamed and not, in any order, all at once or one after the other: each is answered, in order."""

    async def answer(client: AsyncTcpClient, text: str, kind: str) -> None:
        if kind == "info":
            assert (await read(client)).type == "info"
            return
        assert await said(client) == place.pcm(text)
        if kind != "whole":
            assert (await read(client)).type == "synthesize-stopped"

    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            for text, kind in requests:
                whole = {"whole": [asked(text)], "info": [Describe().event()]}
                for event in whole.get(kind) or streamed(cut(text, {4, 9}), again=kind == "stream"):
                    await client.write_event(event)
                if wait:
                    await answer(client, text, kind)
            for text, kind in [] if wait else requests:
                await answer(client, text, kind)

    run(work())


async def home_assistant(client: AsyncTcpClient, pieces: AsyncIterator[str], voice: SynthesizeVoice | None) -> bytes:
    """What its integration does with a streaming server: one task writes, another reads until synthesize-stopped."""

    async def write() -> None:
        await client.write_event(SynthesizeStart(voice=voice).event())
        message = ""
        async for piece in pieces:
            message += piece
            await client.write_event(SynthesizeChunk(text=piece).event())
        await client.write_event(Synthesize(text=message, voice=voice).event())
        await client.write_event(SynthesizeStop().event())

    writing, heard, started = asyncio.create_task(write()), io.BytesIO(), False
    while event := await client.read_event():
        if started and AudioChunk.is_type(event.type):
            heard.write(AudioChunk.from_event(event).audio)
        elif not started and AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            with wave.open(heard, "wb") as header:
                header.setframerate(start.rate)
                header.setsampwidth(start.width)
                header.setnchannels(start.channels)
                started = True
            heard = io.BytesIO(heard.getvalue())
            heard.seek(0, io.SEEK_END)
        elif SynthesizeStopped.is_type(event.type):
            break
    await writing
    return heard.getvalue()


def test_home_assistant(place: Place) -> None:
    """Describe on a connection of its own, then a streamed request on another; and without streaming."""

    async def words() -> AsyncIterator[str]:
        for word in TEXT.split(" "):
            yield word + " "
            await asyncio.sleep(0.005)

    async def work() -> None:
        async with place.serving() as address:
            async with AsyncTcpClient(*address) as client:
                await client.write_event(Describe().event())
                program = next(tts for tts in Info.from_event(await read(client)).tts if tts.installed)
            voice = SynthesizeVoice(name=program.voices[0].name, speaker=None)
            async with AsyncTcpClient(*address) as client:
                heard = await home_assistant(client, words(), voice)
            assert heard[:4] == b"RIFF" and heard[44:] == place.pcm(TEXT + " ")
            async with AsyncTcpClient(*address) as client:
                await client.write_event(Synthesize(text=TEXT, voice=voice).event())
                assert await said(client) == place.pcm(TEXT)

    run(work())


def test_seeds(place: Place) -> None:
    """Given: the same speech every time. Not given: another one each time, and told, so that it can be said again."""

    async def work() -> None:
        heard = []
        for seed in (SEED, SEED, SEED + 1, None, None):
            async with place.serving(seed=seed) as address, AsyncTcpClient(*address) as client:
                await client.write_event(asked(HELLO))
                events = await until(client, "audio-stop")
                heard.append(audio(events))
                told = events[0].data
                assert told["voice"] == "me" and (seed is None or told["seed"] == seed)
                expected = place.tts.synthesize(HELLO, place.voice, seed=told["seed"], **SHORT)
                assert heard[-1] == pcm16(expected)
        assert heard[0] == heard[1]
        assert len(set(heard)) == 4

    run(work())


# ---------------------------------------------------------------- what is not understood


def test_unknown_events_are_dropped(place: Place) -> None:
    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            unknown = [SelectProgram("sopro-np").event(), AudioChunk(16000, 2, 1, b"ab" * 9999).event(), Event("x")]
            events = streamed([TEXT[:30], TEXT[30:]])
            for event in [*unknown, *(e for ours in events for e in (ours, *unknown))]:
                await client.write_event(event)
            assert audio((await until(client, "synthesize-stopped"))[:-1]) == place.pcm(TEXT)
            await client.write_event(Ping("are you there?").event())
            assert await read(client) == Event("pong", {"text": "are you there?"})

    run(work())


BAD = [
    (asked(""), "NothingToSay"),
    (asked(" \n "), "NothingToSay"),
    (asked("\u65e5\u672c\u8a9e"), "UsageError"),
    (asked("a" * 4097), "UsageError"),
    (asked(HELLO, "nobody"), "UnknownVoice"),
    (asked(HELLO, "../me"), "UnknownVoice"),
    (asked(HELLO, "http://x/"), "UnknownVoice"),
    (asked(HELLO, "n" * 9999), "UnknownVoice"),
    (Event("synthesize", {"text": HELLO, "voice": {"language": "de_DE"}}), "UsageError"),
    (Event("synthesize", {"text": HELLO, "voice": "me"}), "UsageError"),
    (Event("synthesize", {"text": HELLO, "voice": {"name": ["me"]}}), "UsageError"),
    (Event("synthesize", {"text": HELLO, "text_format": "ssml"}), "UsageError"),
    (Event("synthesize", {"text": ["Hello"]}), "UsageError"),
    (Event("synthesize"), "UsageError"),
    (Event("synthesize", {"text": "a\ud800b"}), "UsageError"),
    (SynthesizeChunk(HELLO).event(), "UsageError"),
    (SynthesizeStop().event(), "UsageError"),
]


def test_errors_are_events_and_the_connection_goes_on(place: Place) -> None:
    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            for event, code in BAD:
                if "\ud800" in str(event.data.get("text")):  # the package cannot write it
                    raw = json.dumps({"type": event.type, "data": event.data}).encode() + b"\n"
                    client._writer.write(raw)
                else:
                    await client.write_event(event)
                [*_, error] = await until(client, "error")
                assert Error.from_event(error).code == code, (event.data, error.data)
                await client.write_event(asked(HELLO))
                assert await said(client) == place.pcm(HELLO)
            for language in ("en", "en_GB", "EN-us"):
                await client.write_event(Event("synthesize", {"text": HELLO, "voice": {"language": language}}))
                assert await said(client) == place.pcm(HELLO)

    run(work())


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([SynthesizeStart(SynthesizeVoice("nobody")).event(), SynthesizeChunk(TEXT).event()], "UnknownVoice"),
        ([SynthesizeStart(text_format="ssml").event(), SynthesizeChunk(TEXT).event()], "UsageError"),
        ([SynthesizeStart().event()], "NothingToSay"),
        ([SynthesizeStart().event(), SynthesizeChunk("\u65e5\u672c\u8a9e").event()], "UsageError"),
        ([SynthesizeStart().event(), *[SynthesizeChunk("ab. " * 3000).event()] * 2], "UsageError"),
        ([SynthesizeStart().event(), Event("synthesize-chunk", {"text": 3})], "UsageError"),
    ],
)
def test_a_stream_that_fails_ends_with_its_stop(place: Place, events: list[Event], code: str) -> None:
    """The error first; what comes until the stop is dropped; then the connection goes on."""

    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            for event in [*events, SynthesizeStop().event()]:
                await client.write_event(event)
            answer: list[Event] = [await read(client)]
            while answer[-1].type != "synthesize-stopped":
                answer.append(await read(client))
            [error] = [event for event in answer if event.type == "error"]
            assert Error.from_event(error).code == code
            await client.write_event(asked(HELLO))
            assert await said(client) == place.pcm(HELLO)

    run(work())


def test_a_fault_of_ours_is_told_and_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(VoiceShelf):
        def get(self, name: str | None = None) -> Any:
            raise FileNotFoundError("gone this moment")

    async def work() -> None:
        serving = place.serving(shelf=Broken(place.tts, place.folder))
        async with serving as address, AsyncTcpClient(*address) as client:
            await client.write_event(asked(HELLO))
            assert "server's log" in Error.from_event(await read(client)).text
            for event in streamed([HELLO]):
                await client.write_event(event)
            assert [(await read(client)).type for _ in range(2)] == ["error", "synthesize-stopped"]

    run(work())
    assert len(caplog.records) == 2 and "gone this moment" in caplog.text
    assert HELLO not in caplog.text


def test_a_stream_of_no_chunks_says_the_text_that_is_sent_with_it(place: Place) -> None:
    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            for event in [SynthesizeStart().event(), asked(TEXT), SynthesizeStop().event()]:
                await client.write_event(event)
            assert audio((await until(client, "synthesize-stopped"))[:-1]) == place.pcm(TEXT)

    run(work())


def test_a_stop_that_was_forgotten(place: Place) -> None:
    """A second start ends the first text; and describe is answered while one is open."""

    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            await client.write_event(SynthesizeStart().event())
            await client.write_event(Describe().event())
            assert (await read(client)).type == "info"
            await client.write_event(SynthesizeChunk(HELLO).event())
            for event in streamed([TEXT]):
                await client.write_event(event)
            for text in (HELLO, TEXT):
                assert audio((await until(client, "synthesize-stopped"))[:-1]) == place.pcm(text)

    run(work())


def test_after_an_error_the_connection_ends_soon_if_nothing_more_is_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Home Assistant does not know the event: it would wait for audio for ever."""
    monkeypatch.setattr(conversation, "AFTER_ERROR", 0.05)

    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            await client.write_event(asked(HELLO, "nobody"))
            assert (await read(client)).type == "error"
            assert await asyncio.wait_for(client.read_event(), PATIENCE) is None

    run(work())


# ---------------------------------------------------------------- who leaves, who dawdles


async def cancelled(place: Place, before: int) -> None:
    """Until one more job was given up."""
    async with asyncio.timeout(PATIENCE):
        while place.scheduler.counts["cancelled"] <= before:
            await asyncio.sleep(0.005)
    await place.idle()


@pytest.mark.parametrize("when", ["before any audio", "after the first audio", "in the middle of a stream", "reset"])
def test_who_leaves_frees_the_place(place: Place, when: str) -> None:
    async def work() -> None:
        finished, before = (place.scheduler.counts[name] for name in ("finished", "cancelled"))
        async with place.serving(LONG) as address:
            client = AsyncTcpClient(*address)
            await client.connect()
            if when == "in the middle of a stream":
                for event in streamed([TEXT])[:2]:
                    await client.write_event(event)
            else:
                await client.write_event(asked(TEXT))
            if when != "before any audio":
                assert [(await read(client)).type for _ in range(2)] == ["audio-start", "audio-chunk"]
            else:
                async with asyncio.timeout(PATIENCE):
                    while not place.scheduler.stats()["running"]:
                        await asyncio.sleep(0.001)
            if when == "reset":
                client._writer.transport.abort()
            else:
                client._writer.close()
            await cancelled(place, before)
        assert place.scheduler.counts["finished"] == finished

    run(work())


def test_who_only_stops_sending_hears_all(place: Place) -> None:
    """`printf ... | nc` closes one direction: what was asked for is answered, then the connection ends."""

    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            for event in [asked(HELLO), *streamed([TEXT]), Describe().event()]:
                await client.write_event(event)
            client._writer.write_eof()
            assert await said(client) == place.pcm(HELLO)
            assert audio((await until(client, "synthesize-stopped"))[:-1]) == place.pcm(TEXT)
            assert (await read(client)).type == "info"
            assert await client.read_event() is None

    run(work())


def test_a_text_that_is_never_ended(place: Place) -> None:
    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            for event in streamed([HELLO])[:2]:
                await client.write_event(event)
            client._writer.write_eof()
            assert Error.from_event((await until(client, "error"))[-1]).text == "the text has no synthesize-stop"

    run(work())


def test_who_does_not_listen_is_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "SENDING", 0.2)

    async def work() -> None:
        before = place.scheduler.counts["cancelled"]
        async with place.serving(LONG) as address:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, address)
            line = json.dumps({"type": "synthesize", "data": {"text": "One more sentence to be said. " * 60}})
            await loop.sock_sendall(sock, line.encode() + b"\n")
            await cancelled(place, before)
            sock.close()

    run(work())


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("RECEIVING", b"{"),
        ("RECEIVING", b'{"type": "synthesize", "data_length": 100}\n{'),
        ("IDLE", b""),
        ("IDLE", b'{"type": "describe"}\n'),
        ("IDLE", b'{"type": "synthesize-start"}\n'),
    ],
)
def test_who_dawdles_is_left(place: Place, monkeypatch: pytest.MonkeyPatch, name: str, sent: bytes) -> None:
    monkeypatch.setattr(conversation, name, 0.05)

    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            client._writer.write(sent)
            events = [event async for event in everything(client)]
            assert [event.type for event in events if event.type == "error"] == ["error"] * (name == "RECEIVING")

    run(work())


async def everything(client: AsyncTcpClient) -> AsyncIterator[Event]:
    while (event := await asyncio.wait_for(client.read_event(), PATIENCE)) is not None:
        yield event


def test_a_text_has_to_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming_stream, "ARRIVING", 0.05)

    async def work() -> None:
        async with place.serving() as address, AsyncTcpClient(*address) as client:
            await client.write_event(SynthesizeStart().event())
            assert "did not end within" in Error.from_event((await until(client, "error"))[-1]).text

    run(work())


def test_too_many_connections_and_requests(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MOST_ASKED", 3)

    async def work() -> None:
        async with place.serving(connections=2) as address:
            async with AsyncTcpClient(*address) as one, AsyncTcpClient(*address) as two:
                for client in (one, two):
                    await client.write_event(Ping().event())
                    assert (await read(client)).type == "pong"
                async with AsyncTcpClient(*address) as three:
                    assert Error.from_event(await read(three)).code == "Busy"
                    assert await three.read_event() is None
                for event in [*[asked(TEXT)] * 3, asked(HELLO), *streamed([HELLO])]:
                    await one.write_event(event)
                events: list[Event] = []
                while sum(event.type in ("audio-stop", "synthesize-stopped") for event in events) < 4:
                    events.append(await read(one))
                errors = [Error.from_event(event).code for event in events if event.type == "error"]
                assert errors == ["Busy", "Busy"]
                pcm = b"".join(event.payload or b"" for event in events)
                assert pcm == 3 * place.pcm(TEXT)
            for _ in range(5):  # there is room again, as soon as the end of the others is seen
                while True:
                    async with AsyncTcpClient(*address) as client:
                        await client.write_event(asked(HELLO))
                        if (first := await read(client)).type == "audio-start":
                            assert audio([first, *await until(client, "audio-stop")]) == place.pcm(HELLO)
                            break

    run(work())


def test_a_full_queue_is_an_error_event(place: Place) -> None:
    async def work() -> None:
        scheduler = Scheduler(place.tts, queue=0, width=1)
        scheduler.start()
        while not scheduler.ready:
            await asyncio.sleep(0.01)
        serving = place.serving(LONG, scheduler=scheduler)
        async with serving as address, AsyncTcpClient(*address) as one, AsyncTcpClient(*address) as two:
            await one.write_event(asked(TEXT))
            assert (await read(one)).type == "audio-start"
            await two.write_event(asked(TEXT))
            assert Error.from_event(await read(two)).code == "Busy"
            one._writer.transport.abort()
        assert scheduler.drain(PATIENCE)

    run(work())


def test_two_hundred_at_once(place: Place) -> None:
    """Each is served or told to come later; nobody is lost."""

    async def one(address: tuple[str, int]) -> str:
        async with AsyncTcpClient(*address) as client:
            await client.write_event(asked(HELLO))
            first = await read(client)
            if first.type == "error":
                return str(Error.from_event(first).code)
            assert audio([first, *await until(client, "audio-stop")]) == place.pcm(HELLO)
            return "served"

    async def work() -> None:
        async with place.serving() as address:
            found = await asyncio.gather(*(one(address) for _ in range(200)))
            assert set(found) == {"served", "Busy"} and found.count("served") >= 64
            assert await one(address) == "served"

    run(work())


def test_a_hundred_who_leave_in_the_middle(place: Place) -> None:
    async def one(address: tuple[str, int], rng: np.random.Generator) -> None:
        client = AsyncTcpClient(*address)
        await client.connect()
        for event in streamed([TEXT])[: rng.integers(2, 5)] if rng.random() < 0.5 else [asked(TEXT)]:
            await client.write_event(event)
        for _ in range(rng.integers(3)):
            await client.read_event()
        client._writer.transport.abort() if rng.random() < 0.5 else client._writer.close()

    async def work() -> None:
        rng = np.random.default_rng(1)
        async with place.serving(LONG) as address:
            for _ in range(10):
                await asyncio.gather(*(one(address, rng) for _ in range(10)))
            await place.idle()
        assert not place.scheduler.stats()["memory_estimate_bytes"]

    run(work())


# ---------------------------------------------------------------- the end


def test_stop_lets_what_is_said_be_said(place: Place) -> None:
    async def work() -> None:
        service = Service(place.tts, place.scheduler, place.shelf, seed=SEED, options=SHORT)
        listening = bind("127.0.0.1", 0)
        server = WyomingServer(service, listening)
        await server.start()
        address = listening.getsockname()[:2]
        clients = [AsyncTcpClient(*address) for _ in range(3)]
        for client in clients:
            await client.connect()
        speaking, streaming, idle = clients
        await speaking.write_event(asked(TEXT))
        for event in streamed([TEXT])[:2]:
            await streaming.write_event(event)
        await idle.write_event(Describe().event())
        heads = [[await read(client)] for client in clients]
        stopping = asyncio.create_task(server.stop(PATIENCE))
        assert audio(heads[0] + await until(speaking, "audio-stop")) == place.pcm(TEXT)
        rest = heads[1] + [event async for event in everything(streaming)]
        [error] = [event for event in rest if event.type == "error"]
        assert Error.from_event(error).code == "Draining"
        assert await idle.read_event() is None
        await stopping
        with pytest.raises(OSError):
            await AsyncTcpClient(*address).connect()
        for client in clients:
            await client.disconnect()

    run(work())


# ---------------------------------------------------------------- abuse


def fuzzed(rng: np.random.Generator) -> bytes:
    """An event, damaged in one of many ways; or no event at all."""
    kinds = ["describe", "ping", "synthesize", "synthesize-start", "synthesize-chunk", "synthesize-stop", "audio-chunk"]
    values: list[Any] = [
        None,
        3,
        -1,
        1e300,
        "x",
        "",
        HELLO,
        [],
        {},
        {"name": "me"},
        {"name": 3},
        True,
        "\ud800",
        [[[]]],
    ]
    data = {
        str(rng.choice(["text", "voice", "context", "text_format", "rate"])): values[rng.integers(len(values))]
        for _ in range(rng.integers(4))
    }
    line: dict[str, Any] = {"type": kinds[rng.integers(len(kinds))], "version": "1.10.2"}
    inside = rng.random() < 0.3
    more = b"" if inside else json.dumps(data).encode()
    payload = rng.bytes(int(rng.integers(50))) if rng.random() < 0.3 else b""
    line |= {"data": data} if inside else {"data_length": len(more)}
    line |= {"payload_length": len(payload)} if payload else {}
    way = rng.integers(8)
    if way == 0:
        line[str(rng.choice(["data_length", "payload_length", "type", "data"]))] = values[rng.integers(len(values))]
    elif way == 1:
        line[str(rng.choice(["data_length", "payload_length"]))] = int(rng.integers(1 << 40))
    raw = bytearray(json.dumps(line).encode() + b"\n" + more + payload)
    if way == 2:
        del raw[rng.integers(len(raw)) :]
    elif way == 3:
        for _ in range(rng.integers(1, 9)):
            raw[rng.integers(len(raw))] = rng.integers(256)
    elif way == 4:
        return rng.bytes(int(rng.integers(200)))
    elif way == 5:
        return b"[" * int(rng.integers(1 << 17)) + b"\n"
    return bytes(raw)


def test_a_thousand_fuzzed_frames(place: Place) -> None:
    """Whatever is sent, the next one is served; nothing is left behind. (32,000 in the profile `deep`.)"""

    async def abuse(address: tuple[str, int], seed: int, frames: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(frames):
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(rng.integers(1, 4)):
                writer.write(fuzzed(rng))
            if rng.random() < 0.5:
                writer.write_eof()
                await asyncio.wait_for(reader.read(1 << 16), PATIENCE)
            writer.close()

    async def work() -> None:
        problems: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        async with place.serving() as address:
            await asyncio.gather(*(abuse(address, seed, 5 * settings.default.max_examples) for seed in range(8)))
            async with AsyncTcpClient(*address) as client:
                await client.write_event(asked(TEXT))
                assert await said(client) == place.pcm(TEXT)
        await place.idle()
        assert not problems

    run(work(), 20 * PATIENCE)
