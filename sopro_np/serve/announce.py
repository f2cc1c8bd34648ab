"""Service discovery (mDNS, DNS-SD): the local network is told of a Wyoming server, so that Home Assistant offers it."""

from __future__ import annotations

import ipaddress
import socket
from types import TracebackType
from typing import Any

from sopro_np.errors import UsageError

SERVICE = "_wyoming._tcp.local."
ROUTE = ("224.0.0.251", 5353)  # where mDNS goes; nothing is sent there to find the way


def own_address(host: str) -> str:
    """The address at which others reach a server that listens on `host`. UsageError if they do not."""
    try:
        address = socket.getaddrinfo(host, None)[0][4][0]
        if ipaddress.ip_address(address).is_unspecified:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(ROUTE)
                address = probe.getsockname()[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--announce: this machine has no address in a network ({error})") from None
    if ipaddress.ip_address(address).is_loopback:
        raise UsageError(f"--announce: nobody else reaches {host}; listen on an address of the network with --host")
    return str(address)


class Announcement:
    """Announces a Wyoming server at an address while it is entered. UsageError without the package zeroconf."""

    def __init__(self, address: str, port: int, name: str | None = None) -> None:
        try:
            from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
        except ImportError:
            raise UsageError("--announce needs the extra zeroconf: pip install zeroconf") from None
        packed = ipaddress.ip_address(address).packed
        full = f"{(name or f'sopro-np on {socket.gethostname()}')[:60].replace('.', '-')}.{SERVICE}"
        self._make: Any = AsyncZeroconf
        self._address = address
        self._info = AsyncServiceInfo(SERVICE, full, addresses=[packed], port=port)
        self._zeroconf: Any = None

    async def __aenter__(self) -> Announcement:
        try:
            self._zeroconf = self._make(interfaces=[self._address])
            await self._zeroconf.async_register_service(self._info, allow_name_change=True)
        except OSError as error:
            raise UsageError(f"--announce: {self._address} cannot be announced ({error})") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._zeroconf.async_unregister_all_services()
        await self._zeroconf.async_close()
