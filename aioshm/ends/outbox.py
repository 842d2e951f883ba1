"""What is written for readers on other machines: gathered, bounded, handed to the flow.

The small messages of one turn of the loop are gathered to a batch, which is sealed, copied
once for all readers and appended to the flow when the pump comes to send, or when it is
long enough; a large one is appended at once. All of them count from the moment they were
written. Small ones are bounded like those in the ring, by its size; large ones by
``max_overflow_bytes``; so that neither kind has to wait for the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from aioshm.codec import Buffer
from aioshm.links.flow import cut
from aioshm.links.flow_batch import SMALL, pack_alone, pack_batch
from aioshm.links.flow_remote import RemoteSender
from aioshm.links.pump import snapshot
from aioshm.shm.layout import OBJECT

_OVERHEAD = 64  # what a message without bytes takes in the ring
_MOST_PAYLOADS = 512
_MOST_BYTES = 1 << 16


class Outbox:
    """Messages that some reader on another machine has not consumed.

    Args:
        flow: where they go.
        largest_small: bytes of the largest message that counts as a small one.
        small_limit, large_limit: bytes that there may be of either kind.

    Attributes:
        small, large: bytes of each kind.
        waiting: how many messages there are.
    """

    def __init__(
        self, flow: RemoteSender, largest_small: int, small_limit: int, large_limit: int
    ) -> None:
        self._flow = flow
        self.largest_small = largest_small
        self.small_limit, self.large_limit = small_limit, large_limit
        self._seal_at = min(_MOST_BYTES, small_limit // 8)
        self._payloads: list[bytes] = []
        self._gathered = 0
        self._kept: deque[tuple[int, int, int, int]] = deque()
        self.small = self.large = self.waiting = 0
        flow.seal = self.seal

    def has_room(self, nbytes: int) -> bool:
        """Tell whether a message of that size may be written now.

        What is longer than all that there may be fits an empty window; who cares looks first.
        """
        if nbytes <= self.largest_small:
            return not self.small or self.small + nbytes + _OVERHEAD <= self.small_limit
        return not self.large or self.large + nbytes + _OVERHEAD <= self.large_limit

    def append(self, kind: int, number: int, frames: Sequence[Buffer]) -> None:
        """Take a message in; there must be room."""
        nbytes = sum(map(len, frames))
        cost = nbytes + _OVERHEAD
        self.waiting += 1
        if nbytes <= self.largest_small:
            self.small += cost
        else:
            self.large += cost
        self._flow.number = number + 1
        if kind == OBJECT and len(frames) == 1 and nbytes <= SMALL:
            payload = frames[0]
            self._payloads.append(payload if type(payload) is bytes else bytes(payload))
            self._gathered += cost
            if self._gathered >= self._seal_at or len(self._payloads) >= _MOST_PAYLOADS:
                self.seal()
            return
        # In the order in which they were written.
        self._seal(number)
        pieces = cut(pack_alone(kind, number, frames), snapshot)
        small = nbytes <= self.largest_small
        self._keep(self._flow.append(pieces, nbytes), 1, cost if small else 0, 0 if small else cost)

    def seal(self) -> None:
        """Append what was gathered."""
        self._seal(self._flow.number)

    def _seal(self, number: int) -> None:
        """Append what was gathered before the message of this number."""
        payloads = self._payloads
        if not payloads:
            return
        cost = self._gathered
        self._payloads, self._gathered = [], 0
        pieces = cut(pack_batch(number - len(payloads), payloads), snapshot)
        self._keep(self._flow.append(pieces, cost), len(payloads), cost, 0)

    def _keep(self, sequence: int, count: int, small: int, large: int) -> None:
        self._kept.append((sequence, count, small, large))
        self.trim()

    def trim(self) -> None:
        """Forget what all readers have consumed."""
        first = self._flow.first
        while self._kept and self._kept[0][0] < first:
            _, count, small, large = self._kept.popleft()
            self.waiting -= count
            self.small -= small
            self.large -= large
