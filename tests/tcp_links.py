"""The two ends of a TCP link for tests: a router over a bare flow, and guests of it."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

from aioshm import AioshmError
from aioshm.links.curve import new_keys
from aioshm.links.flow import cut
from aioshm.links.flow_batch import pack_alone, pack_batch
from aioshm.links.flow_remote import Joined, Left, RemoteSender
from aioshm.links.network import endpoint
from aioshm.links.remote_client import RemoteClient
from aioshm.links.tcp import TcpRouter
from aioshm.shm.layout import OBJECT
from tests.links import Notes

KEY = bytes(range(32))


class Station(Notes):
    """A writer's socket, its flow, and what it heard.

    Args:
        ranks: those that get in.
        peer_timeout: as the queue's.
        start: begin to serve at once.
    """

    def __init__(
        self, *ranks: int, peer_timeout: float = 5.0, address: str = "127.0.0.1", start: bool = True
    ) -> None:
        super().__init__()
        self.flow = RemoteSender(ranks or (0, 1), KEY)
        self.keys, secret = new_keys()
        self.peer_timeout = peer_timeout
        self.joined: list[Joined | Left] = []
        self.router = TcpRouter(self.flow, address, 0, self.keys, secret, peer_timeout, self._heard)
        self.where = endpoint(address, self.router.port)
        if start:
            self.router.start(asyncio.get_running_loop())

    def _heard(self) -> None:
        events, self.flow.events = self.flow.events, []
        self.joined += events
        self.note((len(self.joined), tuple(self.flow.lost_ranks)))

    def write(self, payload: bytes) -> None:
        """Send a message."""
        number, self.flow.number = self.flow.number, self.flow.number + 1
        self.flow.append(cut(pack_alone(OBJECT, number, [payload]), bytes), len(payload))
        self.router.wake()

    def batch(self, payloads: list[bytes], *, urgent: bool) -> None:
        """Send small messages."""
        number, self.flow.number = self.flow.number, self.flow.number + len(payloads)
        frames = pack_batch(number, payloads, urgent=urgent)
        self.flow.append(cut(frames, bytes), sum(map(len, payloads)))
        self.router.wake()

    def tell(self, *, closed: bool = False) -> None:
        """Say that all have joined, and perhaps that it was all."""
        self.flow.tell(ready=True, closed=closed)
        self.router.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.router.close()


class Guest(Notes):
    """A reader that only notes what it hears, and the client it owns."""

    def __init__(self, station: Station, rank: int = 0, peer_timeout: float | None = None) -> None:
        super().__init__()
        timeout = station.peer_timeout if peer_timeout is None else peer_timeout
        self.client = RemoteClient(self, station.where, KEY, station.keys, rank, timeout)
        self.client.start(asyncio.get_running_loop())

    def ready(self) -> None:
        """Note that all have joined."""
        self.note("ready")

    def came(self) -> None:
        """Note nothing of use to a test, but have it look."""
        self.note("came")

    def writer_gone(self) -> None:
        """Note the writer's end."""
        self.note("gone")

    def refused(self, error: AioshmError) -> None:
        """Note why we did not get in, or had to leave."""
        self.note(error)

    def error(self) -> AioshmError | None:
        """The refusal that was noted."""
        return next((one for one in self.events if isinstance(one, AioshmError)), None)

    def take(self) -> bytes | None:
        """Do what a program's dequeue does."""
        inbox = self.client.inbox
        if inbox.look() is not True:
            return None
        (frame,) = inbox.left.pop()
        inbox.number += 1
        if not inbox.left:
            self.client.acknowledge()
        return bytes(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()


def free_port() -> int:
    """A port of the loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
