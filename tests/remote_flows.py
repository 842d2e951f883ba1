"""A writer's end of the flow protocol and readers that its HELLOs admit, joined without loss."""

from __future__ import annotations

from aioshm.links.flow import Receiver
from aioshm.links.flow_remote import Joined, Left, RemoteSender
from aioshm.links.flow_wire import REMOTE_PIECE

KEY = bytes(range(32))


class RemoteReader:
    """A receiver and its connection to a sender."""

    def __init__(self, ends: RemoteEnds, rank: int, session: int, pid: int = 0) -> None:
        self._ends = ends
        self.receiver = Receiver(rank, KEY, session, None, pid, REMOTE_PIECE)
        self.route = b""
        self.connect()

    def connect(self) -> None:
        """Make a new connection; the writer does not know that the old one is gone."""
        self.route = self._ends.new_route()
        self.receiver.connected()

    def cut(self) -> None:
        """Lose the connection, and have the writer notice."""
        self._ends.sender.lost(self.route)
        self.route = b""

    def say(self) -> list[bytes]:
        """What it has to say, taken for sent."""
        frames = []
        while (frame := self.receiver.outgoing()) is not None:
            self.receiver.sent()
            frames.append(frame)
        return frames


class RemoteEnds:
    """A sender, and the readers that are connected to it."""

    def __init__(self, *ranks: int) -> None:
        self.sender = RemoteSender(ranks or (0, 1), KEY)
        self.readers: list[RemoteReader] = []
        self._routes = 0

    def new_route(self) -> bytes:
        """Name a connection."""
        self._routes += 1
        return b"route %d" % self._routes

    def reader(self, rank: int, session: int = 0, pid: int = 0) -> RemoteReader:
        """Have a reader connect; it is heard when the ends `run`."""
        reader = RemoteReader(self, rank, session or 100 + rank, pid)
        self.readers.append(reader)
        return reader

    def join(self, rank: int, session: int = 0, pid: int = 0) -> RemoteReader:
        """Have a reader connect, and be answered."""
        reader = self.reader(rank, session, pid)
        self.run()
        return reader

    def write(self, payload: bytes = b"x") -> int:
        """Append a message of the flow that is one of the program, too."""
        self.sender.number += 1
        return self.sender.append([b"\0\0\0\1" + len(payload).to_bytes(8, "big") + payload], 1)

    def events(self) -> list[Joined | Left]:
        """Take out what happened."""
        events, self.sender.events = self.sender.events, []
        return events

    def run(self) -> None:
        """Deliver until nobody has anything to say."""
        busy = True
        while busy:
            busy = False
            for reader in self.readers:
                for frame in reader.say() if reader.route else ():
                    busy = True
                    assert self.sender.received(reader.route, [frame]) is None
            for route, parts in self.sender.outgoing():
                busy = True
                for reader in self.readers:
                    if reader.route == route:
                        assert reader.receiver.received(parts) is None
