"""Wyoming server: what Home Assistant and its kin speak to, over TCP, for the voices of a folder.

https://github.com/OHF-Voice/wyoming has the protocol. A text that arrives in pieces sounds, sample for sample, like the
whole text; its first sentence is heard while the others are still being written.
"""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType

from sopro_np.serve.service import Service
from sopro_np.serve.wyoming_conversation import Conversation
from sopro_np.serve.wyoming_events import MOST_LINE, Event, encode, hang_up
from sopro_np.serve.wyoming_service import WyomingService

PORT = 10200  # where clients look for speech
MOST_CONNECTIONS = 64
UNHEARD = 1 << 18  # bytes of audio (5 s) that the system holds for a client that does not take it
MAKER = {"name": "Sopro TTS", "url": "https://huggingface.co/samuel-vitorino/sopro"}


class WyomingServer:
    """Wyoming over TCP for one service. `start`, and `stop` at the end, on one event loop; or enter it.

    The protocol has no seed: that of the service is the seed of everything that is said, else one is drawn for each
    request. listening: a socket that is bound. connections: more than so
    many are refused. drain: seconds in which what was asked for may still be said when it is left.
    """

    def __init__(
        self,
        service: Service,
        listening: socket.socket,
        *,
        connections: int = MOST_CONNECTIONS,
        drain: float = 30.0,
    ) -> None:
        self.connections = connections
        self._service = WyomingService(service)
        self._listening, self._drain = listening, drain
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], Conversation] = {}

    async def start(self) -> None:
        """Answer whoever connects."""
        self._server = await asyncio.start_server(self._accept, sock=self._listening, limit=MOST_LINE)

    async def __aenter__(self) -> WyomingServer:
        await self.start()
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
        conversation = Conversation(self._service, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = conversation
        try:
            await conversation.run()
        finally:
            del self._open[task]
