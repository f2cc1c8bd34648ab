"""One connection of a Wyoming client: requests are read while earlier ones are answered, in their order.

Who sends `describe` in the middle of a stream of text is answered at once: its stop may depend on that. Unknown events
are dropped, as the protocol wants. What goes wrong is said in an `error` event, and the connection goes on, unless
nobody knows where the next event begins. Clients that know no such event wait for audio in vain; so if nothing else is
asked for within a few seconds, the connection ends, which they do know.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from sopro_np.errors import SoproError, UsageError
from sopro_np.script import Part
from sopro_np.serve.ticket import Busy, Draining, Ticket
from sopro_np.serve.wyoming_events import Event, EventError, encode, hang_up, read_event
from sopro_np.serve.wyoming_service import WyomingService
from sopro_np.serve.wyoming_stream import Text, TextStream, text_of, voice_of
from sopro_np.speech import Speech
from sopro_np.voice import Voice
from sopro_np.wav import pcm16

LOG = logging.getLogger("sopro_np.serve")
IDLE = 300.0  # seconds without a request, or a piece of text
RECEIVING = 15.0  # that an event may take, from its first byte to its last
SENDING = 60.0  # that a client may take to make room for the next audio
AFTER_ERROR = 5.0  # that a connection stays open after an error
MOST_ASKED = 16  # requests of one connection that wait
PROBE = 0.02  # seconds between looks at a connection whose other side says nothing more


class Gone(Exception):
    """The other side does not take what it is sent."""


class Conversation:
    """`run` it; `finish`: nothing more is read, and it ends when what was asked for is said."""

    def __init__(self, service: WyomingService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._service, self._reader, self._writer = service, reader, writer
        self._asked: asyncio.Queue[Callable[[], Awaitable[None]] | None] = asyncio.Queue()
        self._waiting = 0  # requests that are not answered to their end
        self._text: TextStream | None = None  # a stream whose stop has not come
        self._events = 0  # that came
        self._speaking = self._sounding = False  # an answer is being made; its audio-start was sent
        self._about: dict[str, Any] = {}  # how it is said: what the protocol does not ask for, in its audio-start
        self._listening: asyncio.Task[bool] | None = None

    async def run(self) -> None:
        """Until one side ends it."""
        self._listening = asyncio.create_task(self._listen())
        answering = asyncio.create_task(self._answer())
        try:
            await asyncio.wait({self._listening, answering}, return_when=asyncio.FIRST_COMPLETED)
            if self._listening.done() and (self._listening.cancelled() or self._listening.result()):
                await self._last_answers(answering)
        except Gone:
            pass
        finally:
            self._listening.cancel()
            answering.cancel()
            await asyncio.gather(self._listening, answering, return_exceptions=True)
            await hang_up(self._reader, self._writer)

    def finish(self) -> None:
        """Read nothing more."""
        if self._listening is not None:
            self._listening.cancel()

    # ------------------------------------------------------------ listening

    async def _listen(self) -> bool:
        """Events in order -> may those that were asked for be answered still?"""
        while True:
            try:
                event = await read_event(self._reader, IDLE, RECEIVING, self._service.most_data)
                if event is None:
                    return True
                self._events += 1
                await self._hear(event)
            except EventError as error:
                await self._fail(error)
                if error.lost:
                    return False
            except SoproError as error:
                await self._fail(error)
            except Gone:
                return False
            except OSError:  # of reading; TimeoutError is one
                if self._reader.exception() is not None or not self._waiting or self._text is not None:
                    return False

    async def _hear(self, event: Event) -> None:
        kind, data, text = event.type, event.data, self._text
        if kind == "describe":
            await (self._describe() if text is not None else self._ask(self._describe))
        elif kind == "ping":
            await self._send(Event("pong", {"text": data.get("text")}))
        elif kind == "synthesize" and text is None:
            whole = Text(voice_of(data), text_of(data, self._service.most))
            await self._ask(lambda: self._say(whole))
        elif kind == "synthesize" and text is not None:
            text.instead = text_of(data, self._service.most)  # for servers that do not stream: this one has heard it
        elif kind == "synthesize-start":
            await self._start(data)
        elif kind == "synthesize-chunk" and text is not None:
            await text.push(data)
        elif kind == "synthesize-stop" and text is not None:
            await self._stop(text)
        elif kind in ("synthesize-chunk", "synthesize-stop"):
            raise UsageError(f"{kind} without synthesize-start")

    async def _start(self, data: dict[str, Any]) -> None:
        if self._text is not None:  # its stop was forgotten: its text ends here
            await self._stop(self._text)
        text = self._text = TextStream(None, self._service.sentences, self._service.most)
        try:
            text.voice = voice_of(data)
            await self._ask(lambda: self._say_stream(text))
        except SoproError:
            text.refused = True
            raise

    async def _stop(self, text: TextStream) -> None:
        self._text = None
        await text.stop()
        if text.refused and self._waiting < MOST_ASKED:
            await self._ask(self._stopped)
        elif text.refused:
            await self._stopped()

    async def _ask(self, answer: Callable[[], Awaitable[None]]) -> None:
        if self._waiting >= MOST_ASKED:
            raise Busy(f"{MOST_ASKED} requests of this connection wait already: hear them first")
        self._waiting += 1
        self._asked.put_nowait(answer)

    # ------------------------------------------------------------ answering

    async def _answer(self) -> None:
        """What was asked for, one after the other."""
        while (answer := await self._asked.get()) is not None:
            try:
                await answer()
            except Gone:
                raise
            except Exception as error:
                await self._fail(known(error))
            finally:
                self._waiting -= 1

    async def _last_answers(self, answering: asyncio.Task[None]) -> None:
        """The other side says nothing more. It may be listening still, or be gone: which, only sending to it tells."""
        if self._text is not None:
            ended = self._reader.at_eof()
            missing = UsageError("the text has no synthesize-stop") if ended else Draining("the server ends")
            self._text.fail(missing, over=True)
        self._asked.put_nowait(None)
        if self._writer.is_closing():
            return
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), 0)  # tells only of errors
        while not (answering.done() or self._writer.is_closing() or poll.poll(0)):
            if self._speaking:
                await self._audio_start()
            await asyncio.wait({answering}, timeout=PROBE)

    async def _describe(self) -> None:
        await self._send(Event("info", await asyncio.to_thread(self._service.info)))

    async def _say(self, request: Text | TextStream) -> None:
        """Audio of a text, part after part."""
        self._speaking, self._sounding = True, False
        try:
            seed = self._service.new_seed()
            self._about = {"seed": seed}
            name, voice = await self._service.voice(request.voice)
            self._about["voice"] = name
            LOG.info("Wyoming speech: voice %s, seed %d", name, seed)
            async for part in request.parts():
                request.heard(part, await self._say_part(part, voice, seed))
            await self._audio_start()
            await self._send(Event("audio-stop"))
        finally:
            self._speaking = False

    async def _say_stream(self, text: TextStream) -> None:
        try:
            await self._say(text)
        except Gone:
            raise
        except Exception as error:
            told = known(error)
            text.fail(told)
            await self._fail(told)
        await text.over.wait()
        await self._stopped()

    async def _stopped(self) -> None:
        await self._send(Event("synthesize-stopped"))

    async def _say_part(self, part: str | Part, voice: Voice, seed: int) -> Speech:
        ticket = await self._submit(part, voice, seed)
        try:
            async for wav in ticket.chunks():
                await self._audio(wav)
        finally:
            ticket.cancel()  # if it goes on and nobody hears it
        assert ticket.speech is not None
        return ticket.speech

    async def _submit(self, text: str | Part, voice: Voice, seed: int) -> Ticket:
        """A place in the queue; it is given up if nobody waits for it any more."""
        task = asyncio.ensure_future(self._service.submit(text, voice, seed))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_give_up)
            raise

    # ------------------------------------------------------------ sending

    async def _audio_start(self) -> None:
        if not self._sounding:
            self._sounding = True
            await self._send(Event("audio-start", {**self._format(), **self._about}))

    async def _audio(self, wav: np.ndarray) -> None:
        await self._audio_start()
        await self._send(Event("audio-chunk", self._format(), pcm16(wav)))

    def _format(self) -> dict[str, int]:
        return {"rate": self._service.sample_rate, "width": 2, "channels": 1}

    async def _fail(self, error: SoproError) -> None:
        await self._send(Event("error", {"text": str(error), "code": type(error).__name__}))
        asyncio.get_running_loop().call_later(AFTER_ERROR, self._hang_up, self._events)

    def _hang_up(self, events: int) -> None:
        """After an error: if nothing came since, and there is nothing to say."""
        if self._events == events and not self._waiting:
            self._writer.close()

    async def _send(self, event: Event) -> None:
        """Gone if nobody takes it."""
        self._writer.write(encode(event))
        try:
            async with asyncio.timeout(SENDING):
                await self._writer.drain()
        except OSError as error:  # TimeoutError is one
            self._writer.transport.abort()
            raise Gone from error


def known(error: Exception) -> SoproError:
    """What a client is told of an error; of a fault of ours only that there was one."""
    if isinstance(error, SoproError):
        return error
    LOG.error("a Wyoming request failed", exc_info=error)
    return SoproError("the request failed for a reason that is in the server's log")


def _give_up(late: asyncio.Future[Ticket]) -> None:
    """Nobody waits any more for a ticket that was being made."""
    if not late.cancelled() and late.exception() is None:
        late.result().cancel()
