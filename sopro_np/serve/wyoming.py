"""Wyoming server: what Home Assistant and its kin speak to, over TCP, for the voices of a folder.

https://github.com/OHF-Voice/wyoming has the protocol. A text that arrives in pieces sounds, sample for sample, like the
whole text; its first sentence is heard while the others are still being written.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from sopro_np.options import Options
from sopro_np.script import Part, fitting, sentences
from sopro_np.serve.service import Service
from sopro_np.serve.ticket import Ticket
from sopro_np.serve.wyoming_conversation import Conversation
from sopro_np.serve.wyoming_events import MOST_DATA, MOST_LINE, Event, encode, hang_up
from sopro_np.serve.wyoming_stream import LANGUAGES
from sopro_np.text.split import Piece
from sopro_np.version import __version__
from sopro_np.voice import Voice

PORT = 10200  # where clients look for speech
MOST_CONNECTIONS = 64
UNHEARD = 1 << 18  # bytes of audio (5 s) that the system holds for a client that does not take it
MAKER = {"name": "Sopro TTS", "url": "https://huggingface.co/samuel-vitorino/sopro"}


class WyomingServer:
    """Wyoming over TCP for one service. `start`, and `stop` at the end, on one event loop; or enter it.

    The protocol has no seed: that of the service is the seed of everything that is said, else one is drawn for each
    request. options: of everything, as in `synthesize`. connections: more than so many are refused. listening: a socket
    that is bound, for who enters it; drain: seconds in which what was asked for may still be said when it is left.
    """

    def __init__(
        self,
        service: Service,
        *,
        options: Mapping[str, Any] | None = None,
        connections: int = MOST_CONNECTIONS,
        listening: socket.socket | None = None,
        drain: float = 30.0,
    ) -> None:
        self.service, self.connections = service, connections
        self.sample_rate, self.most = service.tts.sample_rate, service.limits.characters
        self.most_data = max(MOST_DATA, service.limits.json_bytes)
        self._options, self._chosen = dict(options or {}), Options.of(options or {})
        self._listening, self._drain = listening, drain
        tts = service.tts
        self._fits = fitting(tts.pace, tts.tokenizer.encode, len(tts.model.text.positions))
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], Conversation] = {}

    async def start(self, listening: socket.socket) -> None:
        """Answer whoever connects to a socket that is bound."""
        self._server = await asyncio.start_server(self._accept, sock=listening, limit=MOST_LINE)

    async def __aenter__(self) -> WyomingServer:
        assert self._listening is not None
        await self.start(self._listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(self._drain)

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
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNHEARD)
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
            for name in self.service.shelf.names()
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

    def new_seed(self) -> int:
        """Of one request."""
        return secrets.randbits(32) if self.service.seed is None else self.service.seed

    async def submit(self, text: str | Part, voice: Voice, seed: int) -> Ticket:
        """A request to the scheduler."""
        return await self.service.submit(text, voice, priority="interactive", seed=seed, **self._options)
