"""What a queue without readers on this machine has in the place of its ring and its link.

Everything fits and nothing is kept: such a queue's messages go to the readers on other
machines alone, and their window is what bounds it (outbox.py).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from aioshm.codec import Buffer
from aioshm.errors import MessageTooLarge


class NoRing:
    """A ring with nobody at it; `RingWriter` as far as the writing end uses it.

    Args:
        payload: bytes of the largest lease, as with a ring.

    Attributes:
        position: where a ring would be: always at 0.
        number: messages written.
        owed: bells to ring: none.
        scratch: what was claimed last.
    """

    def __init__(self, payload: int) -> None:
        self._payload = payload
        self.position = self.number = 0
        self.owed: list[int] = []
        self.scratch = Scratch(0)

    def try_write(self, frames: Sequence[Buffer]) -> bool:
        """Count a message."""
        self.number += 1
        return True

    def claim(self, nbytes: int) -> slice:
        """Take memory for a write lease; returns where in `scratch` it is."""
        if nbytes > self._payload:
            raise MessageTooLarge(
                f"a lease of {nbytes} bytes where max_chunk_bytes is {self._payload}; give "
                "MessageQueue.create a larger max_chunk_bytes",
                size=nbytes,
                limit=self._payload,
            )
        self.scratch = Scratch(nbytes)
        return slice(0, nbytes)

    def commit(self, nbytes: int) -> None:
        """Count a message that was written in place."""
        self.number += 1
        self.scratch = Scratch(0)

    def cursors(self) -> dict[int, int]:
        """Nobody's."""
        return {}

    def holding_back(self) -> dict[int, int]:
        """Nobody."""
        return {}

    def has_room_for_marker(self) -> bool:
        """There is room for all."""
        return True

    def arm(self) -> bool:
        """There is room for all."""
        return True

    def disarm(self) -> None:
        """Nobody would ring."""

    def overdue(self) -> bool:
        """Nobody would ring."""
        return False

    def close(self) -> None:
        """There is nobody to tell."""


class Scratch:
    """Memory for a write lease, as `Window` wants a segment."""

    def __init__(self, nbytes: int) -> None:
        self.raw = bytearray(nbytes)

    def holders(self) -> int:
        """References to the memory."""
        return sys.getrefcount(self.raw)


class NoServer:
    """A link that nobody comes by; `LocalServer` as far as the writing end uses it."""

    path = ""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nobody will come."""

    def broadcast(self, packet: bytes) -> None:
        """Nobody came."""

    def close(self, *, goodbye: bool = False) -> None:
        """Nobody came."""
