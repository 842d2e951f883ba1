"""The proxy does to connections what the tests that use it rely on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.helpers import HANG
from tests.proxy import Direction, Proxy


@contextlib.contextmanager
def echo(host: str) -> Iterator[str]:
    """Send back what comes in, one connection after the other; gives the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        stopped = threading.Event()

        def serve() -> None:
            while not stopped.is_set():
                connection, _ = server.accept()
                with connection, contextlib.suppress(ConnectionError):
                    while data := connection.recv(1 << 16):
                        connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        try:
            yield f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        finally:
            stopped.set()
            socket.create_connection((host, port)).close()
            thread.join(HANG)


def connect(proxy: Proxy) -> socket.socket:
    """A connection through the proxy."""
    host, _, port = proxy.address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=HANG)


def receive(connection: socket.socket, count: int) -> bytes:
    """Take so many bytes."""
    got = b""
    while len(got) < count:
        data = connection.recv(count - len(got))
        assert data, f"the end after {len(got)} bytes"
        got += data
    return got


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_passes_everything_both_ways_to_the_end(host: str) -> None:
    sent = bytes(range(256)) * 1000
    with echo(host) as address, Proxy(address) as proxy, connect(proxy) as connection:
        connection.sendall(sent)
        assert receive(connection, len(sent)) == sent
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
        assert proxy.passed == {"up": len(sent), "down": len(sent)}
        assert (proxy.connections, proxy.resets) == (1, 0)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_it_resets_after_the_very_byte_and_only_once(direction: Direction) -> None:
    with echo("127.0.0.1") as address, Proxy(address) as proxy:
        with connect(proxy) as connection:
            connection.sendall(bytes(100))
            receive(connection, 100)
            proxy.reset_after(1234, direction)
            with pytest.raises(ConnectionResetError):
                while True:
                    connection.sendall(bytes(100))
                    receive(connection, 100)
            assert proxy.passed[direction] == 1334
        with connect(proxy) as connection:
            connection.sendall(bytes(5000))
            receive(connection, 5000)
        assert (proxy.connections, proxy.resets) == (2, 1)


def test_it_refuses_new_connections_until_it_accepts_again() -> None:
    with echo("127.0.0.1") as address, Proxy(address) as proxy:
        with connect(proxy) as connection:
            connection.sendall(b"one")
            assert receive(connection, 3) == b"one"
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                connect(proxy)
            connection.sendall(b"two")
            assert receive(connection, 3) == b"two"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        proxy.accept()
        with connect(proxy) as connection:
            connection.sendall(b"three")
            assert receive(connection, 5) == b"three"


def test_it_slows_a_connection_down() -> None:
    with echo("127.0.0.1") as address, Proxy(address, rate=1_000_000) as proxy:
        with connect(proxy) as connection:
            began = time.monotonic()
            sender = threading.Thread(target=connection.sendall, args=(bytes(500_000),))
            sender.start()
            receive(connection, 500_000)
            sender.join(HANG)
            # A tenth of a second's worth may come at once, in each direction.
            assert time.monotonic() - began > 0.25
