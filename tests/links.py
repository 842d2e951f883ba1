"""The two halves of a local link for tests, with owners that only note what they hear."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aioshm import AdmissionRefused, AioshmError
from aioshm.links import hello
from aioshm.links.connection import Connection
from aioshm.links.folder import address
from aioshm.links.hello import Welcome
from aioshm.links.local import LocalServer
from aioshm.links.local_client import LocalClient
from tests.helpers import HANG

TOKEN = bytes(range(32))


def errors_of_callbacks() -> list[dict[str, Any]]:
    """Give a list that the running loop adds to whatever its callbacks raise."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    return errors


class Notes:
    """A list of events that a test can wait for."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._changed = asyncio.Event()

    def note(self, event: Any) -> None:
        """Add an event."""
        self.events.append(event)
        self._changed.set()

    async def until(self, reached: Callable[[list[Any]], bool]) -> list[Any]:
        """Wait until the events are what a test wants."""
        async with asyncio.timeout(HANG):
            while not reached(self.events):
                self._changed.clear()
                await self._changed.wait()
        return self.events

    async def count(self, number: int) -> list[Any]:
        """Wait until there are so many events."""
        return await self.until(lambda events: len(events) >= number)


class FakeHost(Notes):
    """A writer that admits each of its ranks once, and the server it owns.

    Args:
        ranks: the ranks that get in.
        start: begin to accept at once.
    """

    def __init__(self, ranks: tuple[int, ...] = (0, 1, 2), *, start: bool = True) -> None:
        super().__init__()
        self.errors = errors_of_callbacks()
        self.free = list(ranks)
        self.fds = tuple(os.eventfd(0, os.EFD_CLOEXEC) for _ in range(4))
        self.server = LocalServer(self, "test", TOKEN, 16)
        if start:
            self.server.start(asyncio.get_running_loop())

    def admit(self, connection: Connection, rank: int) -> tuple[Welcome, tuple[int, ...]]:
        """Let a reader in."""
        if rank not in self.free:
            raise AdmissionRefused(f"rank {rank} is taken")
        self.free.remove(rank)
        self.note(("admit", rank))
        return Welcome(1000, 1152, 8, 64, rank, 640, 10, 0, os.getpid()), self.fds

    def departed(self, connection: Connection, *, goodbye: bool) -> None:
        """Note that a reader left."""
        self.note(("departed", goodbye))

    def exited(self, connection: Connection) -> None:
        """Note that a reader's process is gone."""
        self.note("exited")

    def close(self) -> None:
        """Close the server and the descriptors."""
        self.server.close()
        fds, self.fds = self.fds, ()
        for fd in fds:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        assert self.errors == []


class FakeGuest(Notes):
    """A reader, and the client it owns."""

    def __init__(self, path: str, rank: int = 0, token: bytes = TOKEN) -> None:
        super().__init__()
        self.fds: list[int] = []
        self.client = LocalClient(self, path, token, rank)

    def start(self) -> Self:
        """Begin to knock."""
        self.client.start(asyncio.get_running_loop())
        return self

    def joined(self, welcome: Welcome, fds: list[int]) -> None:
        """Note that we are in."""
        self.fds = fds
        self.note(welcome)

    def ready(self) -> None:
        """Note that all have joined."""
        self.note("ready")

    def writer_gone(self) -> None:
        """Note the writer's end."""
        self.note("gone")

    def refused(self, error: AioshmError) -> None:
        """Note why we did not get in."""
        self.note(error)

    async def answer(self) -> Any:
        """Wait for the first event."""
        return (await self.count(1))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        for fd in self.fds:
            os.close(fd)


class Stranger:
    """A bare socket that is connected to a server."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        try:
            with address(path) as short:
                self.sock.connect(short)
        except BaseException:
            self.sock.close()
            raise

    async def receive(self) -> bytes:
        """Wait for a packet, ``b""`` at the end."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HANG):
            try:
                return await loop.sock_recv(self.sock, hello.LARGEST)
            except ConnectionResetError:
                return b""  # it was dropped with our packet unread

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()
