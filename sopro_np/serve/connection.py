"""HTTP connections with time limits: a request that does not arrive, and a reader that does not read, are let go."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

RECEIVE = 15.0  # seconds for all of a request, header and body, from the connection or its first byte on
STALLED = 120.0  # seconds in which a client takes nothing of an answer (a player that has heard enough for now)


def _raw(status: str, message: str, kind: str, *headers: str) -> bytes:
    """A whole answer, for clients that did not get as far as the application."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}).encode("ascii")
    head = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*head, "Connection: close", "", "")).encode("ascii") + body


BUSY = _raw("503 Service Unavailable", "too many connections; ask again later", "server_error", "Retry-After: 1")
LATE = _raw("408 Request Timeout", "the request took too long to arrive", "invalid_request_error")
NO_HTTP = _raw("400 Bad Request", "what was sent is no HTTP/1.1 request", "invalid_request_error")


class Connection(H11Protocol):
    """uvicorn's, with one absolute deadline for each request and a bound on how many connections there are."""

    most = 256  # connections; up to twice as many are told so, further ones are closed at once
    receive_seconds = RECEIVE
    stalled_seconds = STALLED

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._refused = len(self.connections) > self.most
        if len(self.connections) > 2 * self.most:
            transport.abort()
            return
        self._deadline = self.loop.call_later(self.receive_seconds, self._late)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self.transport.write(BUSY)
            self.transport.close()
            return
        if self._deadline is None and self._is_receiving():
            self._deadline = self.loop.call_later(self.receive_seconds, self._late)
        super().data_received(data)
        if not self._is_receiving():
            self._stop(receiving=True)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_receiving():  # one that was sent along with the last one is there as a whole
            self._stop(receiving=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(receiving=True)
        self._stop(receiving=False)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop(receiving=False)
        self._stalled = self.loop.call_later(self.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop(receiving=False)
        super().resume_writing()

    def _is_receiving(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _stop(self, receiving: bool) -> None:
        name = "_deadline" if receiving else "_stalled"
        if (timer := getattr(self, name)) is not None:
            timer.cancel()
            setattr(self, name, None)

    def _late(self) -> None:
        """The request is not there yet."""
        self._deadline = None
        if not self.transport.is_closing():
            self._end(LATE)

    def send_400_response(self, msg: str) -> None:
        """What arrives is not HTTP."""
        self._end(NO_HTTP)

    def _end(self, answer: bytes) -> None:
        """Close, with this answer where none has begun."""
        if self.conn.our_state is h11.IDLE or (self.cycle is not None and not self.cycle.response_started):
            self.transport.write(answer)
        self.transport.close()
