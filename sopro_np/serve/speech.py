"""Speech as an HTTP answer: encoded while it is made, plain or as server-sent events; a client that leaves ends it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import numpy as np
from starlette.types import Receive, Scope, Send

from sopro_np.encode import AudioFormat, open_writer
from sopro_np.serve.answers import Refusal, refusal
from sopro_np.serve.logs import LOG
from sopro_np.serve.ticket import Ticket


class _Sink(io.BytesIO):
    """What an encoder has written since the last `pull`."""

    def pull(self) -> bytes:
        data = self.getvalue()
        self.seek(0)
        self.truncate()
        return data


class Encoder:
    """Samples -> bytes of a file that has no known end."""

    def __init__(self, form: AudioFormat, sample_rate: int) -> None:
        self._sink = _Sink()
        self._writer = open_writer(self._sink, form, sample_rate)

    def feed(self, wav: np.ndarray) -> bytes:
        """What is ready once these samples (n,) are added; encoders keep some back."""
        self._writer.write(wav)
        return self._sink.pull()

    def end(self) -> bytes:
        """The rest."""
        self._writer.close()
        return self._sink.pull()


class SpeechAnswer:
    """ASGI response of a ticket. The status is decided when the first audio is there, or an error in its place.

    usage: what is told of the tokens at the end of a stream of events.
    """

    def __init__(
        self,
        ticket: Ticket,
        form: AudioFormat,
        media: str,
        sample_rate: int,
        headers: Mapping[str, str],
        usage: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self.ticket, self._form, self._rate, self._usage = ticket, form, sample_rate, usage
        self._sse = usage is not None
        media = "text/event-stream" if self._sse else media
        self.headers = {"Content-Type": media, "Cache-Control": "no-store", **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; until the last byte, or until nobody is there any more."""
        work = asyncio.create_task(self._answer(scope, receive, send))
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.ticket.cancel()  # at once, whatever the tasks are waiting for
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with aclosing(self._parts()) as parts:
                async for part in parts:
                    if not started:
                        await send({"type": "http.response.start", "status": 200, "headers": self._raw_headers()})
                        started = True
                    if part:
                        await send({"type": "http.response.body", "body": part, "more_body": True})
        except Exception as error:
            told = refusal(error)
            if not started:
                await told.answer()(scope, receive, send)
                return
            LOG.warning("speech broke off: %s", type(error).__name__)
            if not self._sse:
                return  # the body stays unfinished: the client sees that it was cut off
            event = _event({"type": "error", "error": told.body()})
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        """Pieces of the body, the first one (maybe empty) once there is audio."""
        encoder = Encoder(self._form, self._rate)
        async with aclosing(self.ticket.chunks()) as chunks:
            async for wav in chunks:
                yield self._framed(await self._away(encoder.feed, wav))
        if not self.ticket.samples:
            raise Refusal(500, "the model said nothing of this text: ask again, or with another seed", "no_audio")
        yield self._framed(await self._away(encoder.end))
        if self._usage is not None:
            yield _event({"type": "speech.audio.done", "usage": self._usage()})
            yield b"data: [DONE]\n\n"

    async def _away(self, work: Callable[..., bytes], *args: np.ndarray) -> bytes:
        """What takes long, on a thread; for the rest, waking one would take longer, from the scheduler too."""
        return await asyncio.to_thread(work, *args) if self._form.is_lossy else work(*args)

    def _framed(self, data: bytes) -> bytes:
        if not self._sse or not data:
            return data
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode("ascii")})

    def _raw_headers(self) -> list[tuple[bytes, bytes]]:
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode("ascii") + b"\n\n"


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
