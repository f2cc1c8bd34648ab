"""The announcement of a Wyoming server is found by the library that Home Assistant looks with, and ends with it."""

from __future__ import annotations

import asyncio
import sys

import pytest
from zeroconf.asyncio import AsyncZeroconf

from sopro_np.errors import UsageError
from sopro_np.serve.announce import SERVICE, Announcement, own_address


def test_it_is_found_while_it_is_there() -> None:
    """On the loopback interface alone: nothing leaves this machine."""

    async def work() -> None:
        name, looking = "sopro-np in a test.of.it", AsyncZeroconf(interfaces=["127.0.0.1"])
        full = f"sopro-np in a test-of-it.{SERVICE}"
        async with Announcement("127.0.0.1", 10299, name):
            found = await looking.async_get_service_info(SERVICE, full, 10_000)
            assert found is not None
            assert (found.port, found.parsed_addresses()) == (10299, ["127.0.0.1"])
        await looking.async_close()
        looking = AsyncZeroconf(interfaces=["127.0.0.1"])
        assert await looking.async_get_service_info(SERVICE, full, 200) is None
        await looking.async_close()

    asyncio.run(work())


def test_addresses() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        with pytest.raises(UsageError, match="nobody else reaches"):
            own_address(host)
    with pytest.raises(UsageError, match="no address"):
        own_address("no.such.host.invalid")
    assert own_address("192.0.2.1") == "192.0.2.1"
    try:
        assert not own_address("0.0.0.0").startswith("127.")
    except UsageError as error:  # a machine without a network
        assert "no address" in str(error) or "nobody else" in str(error)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf.asyncio", None)
    with pytest.raises(UsageError, match="pip install zeroconf"):
        Announcement("127.0.0.1", 1)


def test_an_address_of_another_machine() -> None:
    async def work() -> None:
        with pytest.raises(UsageError, match="cannot be announced"):
            async with Announcement("203.0.113.9", 10299):
                pass

    asyncio.run(work())
