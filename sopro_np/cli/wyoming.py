"""`sopro-np serve`, its Wyoming side: options, the port, and who may reach it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sopro_np.errors import UsageError

if TYPE_CHECKING:  # the parser of every command imports this file
    import socket
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from sopro_np.serve.service import Service

PORT = 10200  # where clients look for speech


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `serve`."""
    group = parser.add_argument_group("Wyoming, which Home Assistant speaks")
    group.add_argument(
        "--wyoming-port", type=int, metavar="N", help=f"on the same --host; 0 takes a free one (default: {PORT})"
    )
    only = group.add_mutually_exclusive_group()
    only.add_argument("--no-wyoming", action="store_true", help="only HTTP")
    only.add_argument("--no-http", action="store_true", help="only Wyoming")
    group.add_argument("--announce", action="store_true", help="Home Assistant finds it (needs the extra zeroconf)")


def listen(args: argparse.Namespace, tell: Callable[[str], object]) -> socket.socket | None:
    """The socket that Wyoming gets, None: none. What is in the way is an error if it was asked for, else told."""
    from sopro_np.serve.announce import own_address
    from sopro_np.serve.auth import is_loopback
    from sopro_np.serve.run import bind

    port = PORT if args.wyoming_port is None else args.wyoming_port
    if args.no_wyoming:
        if args.announce or args.wyoming_port is not None:
            raise UsageError("--no-wyoming does not go with --wyoming-port or --announce: leave one out")
        return None
    try:
        if not args.i_know and not is_loopback(args.host):
            raise UsageError(
                f"Wyoming knows no keys, and --host {args.host} can be reached from other machines: "
                f"give --i-know to let anybody use it{'' if args.no_http else ', or --no-wyoming'}"
            )
        if args.announce:
            own_address(args.host)
        return bind(args.host, port, "--wyoming-port, --no-wyoming")
    except UsageError as error:
        if args.wyoming_port is not None or args.no_http or args.announce:
            raise
        tell(f"without Wyoming: {error}")
        return None


def servers(
    args: argparse.Namespace, service: Service, listening: socket.socket | None
) -> list[AbstractAsyncContextManager[object]]:
    """What runs on that socket beside HTTP."""
    if listening is None:
        return []
    from sopro_np.serve.announce import Announcement, own_address
    from sopro_np.serve.wyoming import WyomingServer

    found: list[AbstractAsyncContextManager[object]] = [WyomingServer(service, listening, drain=args.drain)]
    if args.announce:
        found.append(Announcement(own_address(args.host), listening.getsockname()[1]))
    return found
