"""The two machines and their cable do what the tests that use them rely on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.helpers import HANG, Child, Pipe
from tests.networks import Cable


async def listen(pipe: Pipe, host: str) -> None:
    """Count the bytes of one connection, from when it is told to."""
    with socket.create_server((host, 0), family=_family(host)) as server:
        pipe.send(server.getsockname()[1])
        server.settimeout(HANG)
        connection, _ = server.accept()
        with connection:
            pipe.send("connected")
            count = 0
            while got := connection.recv(1 << 16):
                count += len(got)
            pipe.send(count)


async def connect(pipe: Pipe, host: str, port: int) -> None:
    """Send what it is told to, to the end."""
    with socket.create_connection((host, port), timeout=HANG) as connection:
        while count := pipe.receive_blocking():
            connection.sendall(bytes(count))
            pipe.send("sent")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@pytest.mark.parametrize("version", ["IPv4", "IPv6"])
async def test_nothing_comes_through_a_cut_cable_and_all_of_it_once_it_is_mended(
    version: str,
) -> None:
    with Cable() as cable:
        host = cable.near.ip4 if version == "IPv4" else cable.near.ip6
        with Child(listen, host, prefix=cable.near.prefix) as server:
            port = await server.receive()
            with Child(connect, host, port, prefix=cable.far.prefix) as client:
                assert await server.receive() == "connected"
                for end in (cable.near, cable.far):
                    end.up(False)
                    before = cable.near.received(), cable.far.received()
                    client.send(1000)
                    assert await client.receive() == "sent"
                    await asyncio.sleep(0.1)
                    assert (cable.near.received(), cable.far.received()) == before
                    cable.mend()
                client.send(0)
                assert await server.receive() == 2000
                assert cable.near.received() > before[0] + 2000
                await client.join()
            await server.join()


async def test_packets_get_lost_and_what_was_sent_does_not() -> None:
    with Cable() as cable:
        cable.lose(2)
        with Child(listen, cable.near.ip4, prefix=cable.near.prefix) as server:
            port = await server.receive()
            with Child(connect, cable.near.ip4, port, prefix=cable.far.prefix) as client:
                assert await server.receive() == "connected"
                client.send(3_000_000)
                client.send(0)
                assert await client.receive() == "sent"
                await client.join()
            assert await server.receive() == 3_000_000
            await server.join()
        # Of 2,000 packets; fewer by chance would be a one in a million.
        assert 15 < cable.lost() < 200
