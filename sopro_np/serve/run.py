"""A server process: listens before the model is warm, serves, and drains when it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import uvicorn

from sopro_np.errors import ModelError, UsageError
from sopro_np.serve.app import make_app
from sopro_np.serve.connection import Connection
from sopro_np.serve.service import Service

HEADER_BYTES = 32 << 10  # of a request, and of the size line of one of its chunks
BACKLOG = 512
ENDING = ("SIGTERM", "SIGINT", "SIGHUP")


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening socket. UsageError if another server has the port, or the host is none of this machine's."""
    try:
        name = host.removeprefix("[").removesuffix("]")  # as an address is written before a port
        family, _, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # :: is every address, the older ones too
        listening = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
        # Each piece of sound at once (connections inherit it): else the last one waits 40 ms for an acknowledgement.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, OverflowError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise UsageError(f"{host}, port {port}: another program listens there; see {option}") from None
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{host}, port {port}: cannot listen there ({reason}); see --host, {option}") from None


class _Server(uvicorn.Server):
    """uvicorn's, with signals left to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def run(
    service: Service,
    listening: socket.socket | None,
    drain: float = 30.0,
    beside: Sequence[AbstractAsyncContextManager[object]] = (),
    tell: Callable[[str], object] = lambda line: None,
    greeting: Sequence[str] = (),
) -> None:
    """`serve` until a signal says so. ModelError if the model could not be warmed up."""
    asyncio.run(serve(service, listening, drain, beside, tell, greeting=greeting))
    if (failure := service.scheduler.failure) is not None:
        raise ModelError(f"the model could not be warmed up: {failure}")


async def serve(
    service: Service,
    listening: socket.socket | None,
    drain: float = 30.0,
    beside: Sequence[AbstractAsyncContextManager[object]] = (),
    tell: Callable[[str], object] = lambda line: None,
    told: asyncio.Event | None = None,
    greeting: Sequence[str] = (),
) -> None:
    """Serve until a signal comes or `told` is set; then running requests finish within `drain` s, others are sent away.

    listening: for HTTP; None: without. beside: other servers of the same service, entered when this one starts and
    left, when what they were asked for is said, before it is drained. tell: is told when it is ready, and when it ends;
    first the greeting, from which on a signal ends it well.
    """
    protocol = type("Connection", (Connection,), {"most": service.limits.connections})
    config = uvicorn.Config(
        make_app(service),
        http=protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    server, scheduler, told = _Server(config), service.scheduler, told or asyncio.Event()

    def end() -> None:
        if told.is_set():  # the second time: at once
            server.force_exit = server.should_exit = True
            scheduler.abandon()
        told.set()

    async def watch() -> None:
        while not scheduler.ready and scheduler.failure is None and not told.is_set():
            await asyncio.sleep(0.02)
        if scheduler.ready:
            tell("ready")
        if scheduler.failure is None:
            await told.wait()
        tell(f"draining: what is being spoken is finished, for at most {drain:g} s (a second signal ends at once)")
        until = time.monotonic() + drain
        await stack.aclose()
        await asyncio.to_thread(scheduler.drain, max(0.0, until - time.monotonic()))
        config.timeout_graceful_shutdown = max(1, int(until - time.monotonic()))  # to send the rest
        server.should_exit = True

    with _signals(asyncio.get_running_loop(), end):
        for line in greeting:
            tell(line)
        scheduler.start()
        async with AsyncExitStack() as stack:
            for other in beside:
                await stack.enter_async_context(other)
            watching = asyncio.create_task(watch())
            if listening is not None:
                await server.serve(sockets=[listening])
                told.set()
            await watching


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> Generator[None, None, None]:
    """What ends a process ends it by draining; what is ignored (nohup) stays ignored."""
    numbers = [n for name in ENDING if (n := getattr(signal, name, None)) and signal.getsignal(n) is not signal.SIG_IGN]
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        numbers = []  # somebody else looks after signals
    for number in numbers:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
