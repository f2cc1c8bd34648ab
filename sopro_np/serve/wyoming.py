"""Wyoming server: what Home Assistant and its kin speak to, over TCP, for the voices of a folder.

https://github.com/OHF-Voice/wyoming has the protocol. A text that arrives in pieces sounds, sample for sample, like the
whole text; its first sentence is heard while the others are still being written.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from sopro_np.errors import UsageError
from sopro_np.options import Options
from sopro_np.script import Part, fitting, sentences
from sopro_np.serve.scheduler import Scheduler
from sopro_np.serve.ticket import Ticket
from sopro_np.serve.voices import VoiceShelf
from sopro_np.serve.wyoming_conversation import Conversation
from sopro_np.serve.wyoming_events import MOST_LINE, Event, encode, hang_up
from sopro_np.serve.wyoming_stream import LANGUAGES
from sopro_np.text.split import Piece
from sopro_np.version import __version__
from sopro_np.voice import Voice

LOG = logging.getLogger("sopro_np.serve")
PORT = 10200  # where clients look for speech
MOST_CONNECTIONS = 64
MAKER = {"name": "Sopro TTS", "url": "https://huggingface.co/samuel-vitorino/sopro"}


class WyomingServer:
    """Wyoming over TCP for one scheduler and its voices. `start`, and `stop` at the end, on one event loop.

    seed: of everything that is said, for speech that can be repeated (the protocol has no seed; None: drawn for each
    request). options: of everything, as in `synthesize`. connections: more than so many are refused.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        voices: VoiceShelf,
        *,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
        connections: int = MOST_CONNECTIONS,
    ) -> None:
        self.scheduler, self.voices, self.seed, self.connections = scheduler, voices, seed, connections
        self.sample_rate = scheduler.tts.sample_rate
        self._options = dict(options or {})
        self._chosen = Options.of({**self._options, "seed": seed})
        tts = scheduler.tts
        self._fits = fitting(tts.pace, tts.tokenizer.encode, len(tts.model.text.positions))
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], Conversation] = {}

    async def start(self, host: str = "127.0.0.1", port: int = PORT) -> tuple[str, int]:
        """Listen -> the address. UsageError if it is taken or not this machine's."""
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=MOST_LINE)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot listen on {host}:{port}: {reason}; choose another --wyoming-port") from None
        return self._server.sockets[0].getsockname()[:2]

    async def stop(self, timeout: float | None = None) -> None:
        """Nobody new; what was asked for is said to its end, for `timeout` seconds; then all connections end."""
        if self._server is not None:
            self._server.close()
        for conversation in self._open.values():
            conversation.finish()
        if self._open:
            await asyncio.wait(self._open, timeout=timeout)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self.connections:
            text = f"{len(self._open)} connections are open already: try again later"
            writer.write(encode(Event("error", {"text": text, "code": "Busy"})))
            await hang_up(reader, writer)
            return
        if (sock := writer.get_extra_info("socket")) is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation = Conversation(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = conversation
        try:
            await conversation.run()
        finally:
            del self._open[task]

    # ------------------------------------------------------------ what conversations need

    def info(self) -> dict[str, Any]:
        """What there is, as the protocol describes it; the voices are looked up now."""
        common = {"attribution": MAKER, "installed": True, "version": __version__}
        voices = [
            {"name": name, "description": name, "languages": list(LANGUAGES), "speakers": None, **common}
            for name in self.voices.names()
        ]
        program = {
            "name": "sopro-np",
            "description": "Sopro TTS, which speaks in voices it has heard",
            **common,
            "voices": voices,
            "supports_synthesize_streaming": True,
        }
        others = ("asr", "handle", "intent", "wake", "mic", "snd")
        return {"tts": [program], **{name: [] for name in others}}

    def sentences(self, text: str) -> Iterable[Piece]:
        """What is said of a text, sentence by sentence."""
        return sentences(text, self._chosen, self._fits)

    def submit(self, text: str | Part, voice: Voice, seed: int) -> Ticket:
        """A request to the scheduler. It may take a while to read a long text."""
        return self.scheduler.submit(text, voice, priority="interactive", seed=seed, **self._options)
