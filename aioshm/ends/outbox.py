"""What is written for readers on other machines: gathered, bounded, handed to the flow.

The small messages of one turn of the loop are gathered to a batch, and in a flood those of
the next turns too, for a millisecond at most; then it is sealed, copied once for all
readers and appended to the flow. Where there is no flood nothing waits for more, and a
large message is appended at once. All of them count from the moment they were written.
Small ones are bounded like those in the ring, by its size; large ones by
``max_overflow_bytes``; so that neither kind has to wait for the other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from aioshm.codec import Buffer
from aioshm.links.flow import cut
from aioshm.links.flow_batch import SMALL, pack_alone, pack_batch
from aioshm.links.flow_remote import RemoteSender
from aioshm.links.flow_wire import REMOTE_PIECE
from aioshm.links.pump import snapshot
from aioshm.shm.layout import OBJECT

OVERHEAD = 64
"""What a message without bytes takes, as in the ring."""

_MOST_PAYLOADS = 512
_FLOOD = 32
"""Messages a turn that are a flood: half of what the writer's calls may do in one."""

_ENOUGH = 256
"""Messages for which a batch waits in a flood: four turns."""

_LONGEST = 1e-3
"""Seconds after which a batch waits no more, since a turn may take long."""

_URGENT_FROM = 0.25
"""The part of the room for small messages from which on readers are to hurry."""


class Outbox:
    """Messages that some reader on another machine has not consumed.

    Args:
        flow: where they go.
        largest_small: bytes of the largest message that counts as a small one.
        small_limit, large_limit: bytes that there may be of either kind.

    Attributes:
        large: bytes of the large messages.
        payloads, first: the small messages that are being gathered, and the first one's number.
        room: bytes of small messages, their overhead included, that may be gathered.
    """

    def __init__(
        self, flow: RemoteSender, largest_small: int, small_limit: int, large_limit: int
    ) -> None:
        self._flow = flow
        self.largest_small = largest_small
        self.small_limit, self.large_limit = small_limit, large_limit
        self._most_small = min(largest_small, SMALL)
        self._urgent_below = small_limit - int(small_limit * _URGENT_FROM)
        self.payloads: list[bytes] = []
        self.first = 0
        self.room = small_limit
        self._kept: deque[tuple[int, int, int, int]] = deque()
        self.large = self._sealed = 0
        self._seen = 0
        self._since = 0.0
        flow.gather = self.gather

    def has_room(self, nbytes: int) -> bool:
        """Tell whether a message of that size may be written now.

        What is longer than all that there may be fits an empty window; who cares looks first.
        """
        cost = nbytes + OVERHEAD
        if nbytes <= self.largest_small:
            # Full, but of what nobody counted yet.
            if cost > self.room and self.payloads:
                self.seal()
            return cost <= self.room or self.room == self.small_limit
        return not self.large or self.large + cost <= self.large_limit

    @property
    def small(self) -> int:
        """Bytes of the small messages, their overhead included."""
        return self.small_limit - self.room

    @property
    def waiting(self) -> int:
        """How many messages there are."""
        return self._sealed + len(self.payloads)

    def append(self, kind: int, number: int, frames: Sequence[Buffer]) -> None:
        """Take a message in; there must be room."""
        nbytes = sum(map(len, frames))
        if kind == OBJECT and len(frames) == 1 and nbytes <= self._most_small:
            if not self.payloads:
                self.first = number
            payload = frames[0]
            self.payloads.append(payload if type(payload) is bytes else bytes(payload))
            self.room -= nbytes + OVERHEAD
            if len(self.payloads) >= _MOST_PAYLOADS:
                self.seal()
            return
        # In the order in which they were written.
        self.seal()
        self._flow.number = number + 1
        cost = nbytes + OVERHEAD
        small, large = (cost, 0) if nbytes <= self.largest_small else (0, cost)
        self.room -= small
        self.large += large
        self._keep(pack_alone(kind, number, frames), nbytes, (1, small, large))

    def gather(self, now: bool) -> bool:
        """Append what was gathered, or tell that more is to be waited for, for one turn."""
        count = len(self.payloads)
        if not now and self._seen + _FLOOD <= count < _ENOUGH:
            passed = time.monotonic()
            if not self._seen:
                self._since = passed
            if passed < self._since + _LONGEST:
                self._seen = count
                return True
        self.seal()
        return False

    def seal(self) -> None:
        """Append what was gathered."""
        payloads = self.payloads
        if payloads:
            urgent = self.room < self._urgent_below
            frames = pack_batch(self.first, payloads, urgent=urgent)
            self.payloads, self._seen = [], 0
            self._flow.number = self.first + len(payloads)
            cost = len(frames[0]) + OVERHEAD * len(payloads)
            self._keep(frames, cost, (len(payloads), cost, 0))

    def _keep(self, frames: Sequence[Buffer], nbytes: int, counts: tuple[int, int, int]) -> None:
        sequence = self._flow.append(cut(frames, snapshot, REMOTE_PIECE), nbytes)
        self._sealed += counts[0]
        self._kept.append((sequence, *counts))
        self.trim()

    def trim(self) -> None:
        """Forget what all readers have consumed."""
        first = self._flow.first
        while self._kept and self._kept[0][0] < first:
            _, count, small, large = self._kept.popleft()
            self._sealed -= count
            self.room += small
            self.large -= large
