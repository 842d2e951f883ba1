"""A writer's and a reader's end of the flow protocol, joined without loss."""

from __future__ import annotations

from collections.abc import Sequence

from aioshm.links import flow_wire
from aioshm.links.flow import Receiver, Sender, cut

KEY = bytes(range(32))
SESSION = 77
TAG = flow_wire.reader_tag(KEY, 0, SESSION)
FROM_WRITER = flow_wire.writer_tag(KEY, 0, SESSION)


class Ends:
    """A sender and one receiver, and a connection between them that loses nothing."""

    def __init__(self, max_messages: int = 100, max_bytes: int = 1 << 30) -> None:
        self.sender = Sender(max_messages, max_bytes)
        self.sender.admit(0, KEY)
        self.receiver = Receiver(0, KEY, SESSION, 0)
        self.route = b"first"
        self.receiver.connected()

    def write(self, *frames: bytes) -> int:
        """Append a message."""
        return self.sender.append(cut(frames, bytes), sum(map(len, frames)))

    def up(self) -> None:
        """Deliver what the reader has to say."""
        while (frame := self.receiver.outgoing()) is not None:
            self.receiver.sent()
            assert self.sender.received(self.route, [frame]) is None

    def down(self) -> list[Sequence[bytes]]:
        """What the writer has to say."""
        return [parts for _, parts in self.sender.outgoing()]

    def run(self) -> None:
        """Deliver until nobody has anything to say."""
        while True:
            self.up()
            frames = self.down()
            if not frames:
                return
            for parts in frames:
                assert self.receiver.received(parts) is None
