"""Messages that do not fit the ring, at the writer: a marker there, the body over a socket.

A marker keeps the message's place among the others; its body goes to each reader over
``ipc://``, by the flow protocol of links/flow.py. The two are written in one step and
all or nothing: there must be room for the marker in the ring and for the body in the
window, whose bytes are bounded. Whatever lacks is what the writer parks on: the readers'
cursors, as ever, or an acknowledgement that the pump brings.

The socket is made with the first such message, so a queue that needs none has none. Its
name is fixed from the start, and every admission carries it, a number and a key.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Collection, Sequence

from aioshm.codec import Buffer
from aioshm.ends.roster import Member
from aioshm.ends.stats import OverflowStats
from aioshm.errors import AioshmError, MessageTooLarge
from aioshm.links.flow import Sender, cut
from aioshm.links.ipc import IpcRouter
from aioshm.links.pump import need_descriptors, snapshot
from aioshm.shm.ring import RingWriter

_MOST_MESSAGES = 1 << 14
_SPARE_DESCRIPTORS = 8


class OverflowWriter:
    """The writer's overflow, and how it parks: a `Parking` over that of the ring.

    Args:
        who: role and pid of the writer, for errors.
        path: the socket's path.
        ring: where the markers go.
        max_bytes: bytes of bodies that may be on their way.
        changed: called when a reader acknowledged something.
    """

    def __init__(
        self,
        who: str,
        path: str,
        ring: RingWriter,
        max_bytes: int,
        changed: Callable[[], None],
    ) -> None:
        self._who, self._path, self._ring = who, path, ring
        self._changed = changed
        self._flow = Sender(_MOST_MESSAGES, max_bytes)
        self._router: IpcRouter | None = None
        self._numbers: dict[Member, int] = {}
        self._admitted = 0
        self._written = 0
        self._lacks: int | None = None

    # -- readers come and go -----------------------------------------------------------

    def admit(self, member: Member) -> tuple[int, bytes, str]:
        """Count a reader in; returns its number, its key and the socket's file name."""
        number, self._admitted = self._admitted, self._admitted + 1
        key = os.urandom(32)
        self._numbers[member] = number
        self._flow.admit(number, key)
        return number, key, os.path.basename(self._path)

    def keep(self, members: Collection[Member]) -> None:
        """Wait no more for readers other than these: they left, died or were evicted."""
        for member in self._numbers.keys() - set(members):
            self._flow.remove(self._numbers.pop(member))

    # -- writing -------------------------------------------------------------------------

    def try_write(self, frames: Sequence[Buffer], nbytes: int) -> bool:
        """Write a message, marker and body; False if there is no room for one of them.

        Raises:
            MessageTooLarge: it is larger than all that may be on its way.
            AioshmError: the socket could not be made, or the readers not connect.
        """
        self._lacks = None
        limit = self._flow.max_bytes
        if nbytes > limit:
            raise MessageTooLarge(
                f"{self._who}: the message has {nbytes} bytes where max_overflow_bytes is "
                f"{limit}; give MessageQueue.create a larger max_overflow_bytes",
                size=nbytes,
                limit=limit,
            )
        if not self._ring.has_room_for_marker():
            return False
        if not self._flow.has_room(nbytes):
            self._lacks = nbytes
            return False
        router = self._listen()
        sequence = self._flow.append(cut(frames, snapshot), nbytes)
        position = self._ring.position
        try:
            self._ring.write_marker(sequence, nbytes)
        except BaseException:
            if self._ring.position == position:
                self._flow.retract()
            raise
        self._written += 1
        router.wake()
        return True

    def stand_aside(self) -> None:
        """What is tried now is another message, for which the ring alone counts."""
        self._lacks = None

    def _listen(self) -> IpcRouter:
        loop, backlog = asyncio.get_running_loop(), 2 * len(self._numbers) + 16
        try:
            if self._flow.unconnected:
                need_descriptors(self._flow.unconnected + _SPARE_DESCRIPTORS)
            if self._router is None:
                self._router = IpcRouter(loop, self._flow, self._path, backlog, self._heard)
        except OSError as error:
            cure = "remove it" if error.errno == errno.EADDRINUSE else "raise the limit"
            raise AioshmError(
                f"{self._who} cannot listen at {self._path}, where large messages come from: "
                f"{error.strerror}; {cure}"
            ) from error
        return self._router

    def _heard(self) -> None:
        if not self._flow.messages or (
            self._lacks is not None and self._flow.has_room(self._lacks)
        ):
            self._changed()

    # -- waiting ---------------------------------------------------------------------------

    def arm(self) -> bool:
        """Ask for a bell if it is the ring that lacks room; look again."""
        if self._lacks is not None:
            return self._flow.has_room(self._lacks)
        return self._ring.arm()

    def disarm(self) -> None:
        """Ask for no bell."""
        self._ring.disarm()

    def overdue(self) -> bool:
        """Tell whether a bell is due; none rings for room in the window."""
        return self._lacks is None and self._ring.overdue()

    # -- the end ---------------------------------------------------------------------------

    def drained(self) -> bool | None:
        """True once every body was consumed by all, None before."""
        return None if self._flow.messages else True

    def held_back(self) -> str | None:
        """Say what is on its way, if that is what keeps the writer waiting."""
        return None if self._lacks is None else self.unread()

    def holding_back(self) -> dict[int, int]:
        """Look at the readers that leave no room for the message last tried: slot to cursor."""
        if self._lacks is None:
            return self._ring.holding_back()
        cursors, oldest = self._ring.cursors(), self._flow.messages
        return {
            member.slot: cursors[member.slot]
            for member, number in self._numbers.items()
            if self._flow.behind(number) == oldest
        }

    def unread(self) -> str:
        """Say what is on its way, and to whom."""
        flow = self._flow
        behind = {member: flow.behind(number) for member, number in self._numbers.items()}
        slow = sorted(behind, key=behind.__getitem__, reverse=True)[:8]
        ranks = [f"rank {m.rank} (pid {m.pid}) has {behind[m]} to read" for m in slow if behind[m]]
        return (
            f"{flow.nbytes} of max_overflow_bytes={flow.max_bytes} bytes of large messages are on "
            f"their way: {', '.join(ranks)}"
        )

    def stats(self) -> OverflowStats:
        """Give the counts."""
        flow = self._flow
        return OverflowStats(self._written, flow.messages, flow.nbytes, flow.breaches)

    def close(self) -> None:
        """Close the socket; what was not acknowledged is lost. Safe to call twice."""
        if self._router is not None:
            self._router.close()
