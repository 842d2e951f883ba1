"""What a reader on another machine has received: the flow's messages as the program's.

A message of the flow is acknowledged when the program took the last one in it. The
numbers of the messages show what is missing: a gap is told before the first message
after it, or at the end.
"""

from __future__ import annotations

from typing import NamedTuple

from aioshm.codec import Buffer
from aioshm.links.flow import Receiver
from aioshm.links.flow_batch import unpack
from aioshm.shm.layout import OBJECT


class Missing(NamedTuple):
    """Messages that this reader can no longer get: the first and the last number."""

    first: int
    last: int


class Inbox:
    """Messages in order, each to be looked at and then taken.

    Args:
        flow: where they come from.

    Attributes:
        kind: what the messages at hand are, OBJECT or RAW.
        urgent: the writer may wait for them to be acknowledged.
        left: their frames, the next one last; whoever empties it calls `acknowledge`.
        number: of the next message, counted from the writer's first.
    """

    def __init__(self, flow: Receiver) -> None:
        self._flow = flow
        self._at = -1
        self.kind = OBJECT
        self.urgent = False
        self.left: list[list[Buffer]] = []
        self.number = 0

    def begin(self) -> bool:
        """Start at the message from which the writer serves this reader; False before it said."""
        flow = self._flow
        if self._at < 0 and flow.state is not None and flow.consumed is not None:
            self._at, self.number = flow.consumed, flow.state.first_number
        return self._at >= 0

    def look(self) -> Missing | bool:
        """Look for the next message; True if it is in `left`, or what is missing before it."""
        if self.left:
            return True
        flow = self._flow
        if not self.begin():
            return False
        while (frames := flow.body(self._at)) is not None or flow.is_lost(self._at):
            if frames is None:
                self._at = flow.after_gap(self._at)
                continue
            batch = unpack(frames)
            if isinstance(batch, str):
                # An authenticated writer sent it, so it is no attack; it counts as missing.
                self.acknowledge()
                continue
            self.kind, self.left, self.urgent = batch.kind, batch.messages, batch.urgent
            self.left.reverse()
            return self._skip_to(batch.number) or True
        return False

    def end(self, *, gone: bool) -> Missing | bool:
        """Tell whether nothing is to come: the writer closed, and all was read.

        Args:
            gone: the writer is out of reach, so what did not arrive never will.

        Returns:
            True at the end; or what is missing before it, told once.
        """
        state = self._flow.state
        if state is None or not state.closed or not (gone or 0 <= state.next <= self._at):
            return False
        return self._skip_to(state.number) or True

    def has_more(self) -> bool:
        """Tell whether the next message of the flow is there already."""
        return self._flow.body(self._at) is not None

    def acknowledge(self, *, quietly: bool = False) -> None:
        """The program took all of the messages at hand; see `Receiver.consume`."""
        self._flow.consume(self._at, quietly=quietly)
        self._at += 1

    def _skip_to(self, number: int) -> Missing | None:
        before, self.number = self.number, max(self.number, number)
        return Missing(before, number - 1) if before < number else None
