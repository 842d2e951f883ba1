"""Readers on other machines, at the writer: who they are, what they have to read, who is gone.

What is written for them enters the outbox (outbox.py) in the same step as the ring: a
message has room in both or is written to neither. What lacks in the outbox comes back by
acknowledgements, which the pump brings; so parking for it asks for no bell.

A reader whose connection is lost has ``peer_timeout`` to come back before it counts as
dead. The timers are here, so that the flow needs no clock.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from typing import Protocol

from aioshm.ends.outbox import Outbox
from aioshm.ends.stats import PeerStats, RemoteStats
from aioshm.errors import MessageTooLarge
from aioshm.links import network
from aioshm.links.curve import Keys
from aioshm.links.flow_remote import Joined, RemoteSender
from aioshm.links.tcp import TcpRouter
from aioshm.links.weakly import weakly
from aioshm.waiting import Parking


class RemoteHost(Protocol):
    """The writer, as this part of it sees it; called from callbacks of the loop."""

    def remote_joined(self, rank: int, pid: int, address: str) -> None:
        """A reader joined, or came back from the dead."""

    def remote_left(self, rank: int) -> None:
        """A reader said goodbye."""

    def remote_died(self, rank: int) -> None:
        """A reader was away for too long."""

    def remote_moved(self) -> None:
        """There may be room, or nothing left to wait for."""


@dataclass(frozen=True)
class Place:
    """Where readers on other machines connect.

    Attributes:
        ranks: which readers these are.
        connect, bind: the address they use, and the one of this machine that it leads to.
        port: 0 takes a free one.
        peer_timeout: seconds for which they may be away.
    """

    ranks: tuple[int, ...]
    connect: str
    bind: str
    port: int
    peer_timeout: float


class RemoteWriter:
    """The writer's half of the links to readers on other machines, and how it parks for them.

    Args:
        host: the writer, held weakly.
        who: role and pid of the writer, for errors.
        place: who connects where.
        token: the 32 bytes that a reader must know.
        keys, secret: the queue's CURVE keys.
        limits: bytes of the largest small message, of all small ones, of all large ones.

    Raises:
        OSError: the port is taken, or no descriptor is left.

    Attributes:
        outbox: what they have not consumed.
        router: what sends it.
        port: where it listens.
        address: where readers connect.
    """

    def __init__(
        self,
        host: RemoteHost,
        who: str,
        place: Place,
        token: bytes,
        keys: Keys,
        secret: bytes,
        limits: tuple[int, int, int],
    ) -> None:
        self._host = weakref.ref(host)
        self._who, self._place = who, place
        self._flow = flow = RemoteSender(place.ranks, token)
        self.outbox = Outbox(flow, *limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._away: dict[int, asyncio.TimerHandle] = {}
        self._lacks: int | None = None
        self._parking: Parking | None = None
        self.router = TcpRouter(
            flow, place.bind, place.port, keys, secret, place.peer_timeout, weakly(self._heard)
        )
        self.port = self.router.port
        self.address = network.endpoint(place.connect, self.port)

    # -- readers come and go -----------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to let readers in, in this loop."""
        self._loop = loop
        self.router.start(loop)

    def tell(self, *, ready: bool, closed: bool = False) -> None:
        """Tell every reader how the queue is."""
        self.outbox.seal()
        self._flow.tell(ready=ready, closed=closed)
        self.router.wake()

    def let_go(self, rank: int) -> None:
        """Wait no more for a reader that died; it may come back, and miss what it misses."""
        self._flow.let_go(rank)
        self._watch()

    def evict(self, rank: int) -> None:
        """Wait no more for a reader, and tell it so."""
        self._flow.evict(rank)
        self.router.wake()
        self._watch()

    def _heard(self) -> None:
        host = self._host()
        if host is None:
            return
        events, self._flow.events = self._flow.events, []
        for event in events:
            if isinstance(event, Joined):
                address = self.router.addresses.pop(event.rank, "")
                host.remote_joined(event.rank, event.pid, address)
            else:
                host.remote_left(event.rank)
        self._watch()
        if self._lacks is None or self.outbox.has_room(self._lacks):
            host.remote_moved()

    def _watch(self) -> None:
        """Give whoever lost its connection some time to come back."""
        self.outbox.trim()
        lost = set(self._flow.lost_ranks)
        for rank in self._away.keys() - lost:
            self._away.pop(rank).cancel()
        for rank in lost - self._away.keys():
            assert self._loop is not None
            last = self._flow.last_connection(rank)
            timer = self._loop.call_later(self._place.peer_timeout, self._give_up, rank, last)
            self._away[rank] = timer

    def _give_up(self, rank: int, last: tuple[int | None, int]) -> None:
        # The loop may have been busy for so long that it has not seen the reader come back.
        self.router.look()
        host = self._host()
        timer = self._away.pop(rank, None)
        if timer is None or rank not in self._flow.lost_ranks or host is None:
            return
        if self._flow.last_connection(rank) != last:
            # It was back, and is lost again: it has all its time once more.
            timer.cancel()
            self._watch()
            return
        self._flow.give_up(rank)
        host.remote_died(rank)

    # -- writing -------------------------------------------------------------------------

    def has_room(self, nbytes: int) -> bool:
        """Tell whether a message of that size may be written now; note it if not.

        Raises:
            MessageTooLarge: it is larger than all that may be on its way.
        """
        outbox = self.outbox
        limit = max(outbox.largest_small, outbox.large_limit)
        if nbytes > limit:
            raise MessageTooLarge(
                f"{self._who}: the message has {nbytes} bytes where max_overflow_bytes is "
                f"{outbox.large_limit}; give MessageQueue.create a larger max_overflow_bytes",
                size=nbytes,
                limit=limit,
            )
        if outbox.has_room(nbytes):
            self._lacks = None
            return True
        self._lacks = nbytes
        self.router.wake()  # what was gathered may have been sealed for it
        return False

    # -- waiting ---------------------------------------------------------------------------

    def over(self, parking: Parking) -> Parking:
        """Park here, over another parking, which counts where there is room in the outbox."""
        self._parking = parking
        return self

    def arm(self) -> bool:
        """Ask for a bell if it is not the outbox that lacks room; look again."""
        assert self._parking is not None
        if self._lacks is not None:
            return self.outbox.has_room(self._lacks)
        return self._parking.arm()

    def disarm(self) -> None:
        """Ask for no bell."""
        if self._parking is not None:
            self._parking.disarm()

    def overdue(self) -> bool:
        """Tell whether a bell is due; none rings for room in the outbox."""
        return self._lacks is None and self._parking is not None and self._parking.overdue()

    # -- saying what is going on, leaving ----------------------------------------------------

    def peer(self, rank: int, pid: int) -> PeerStats:
        """Describe a reader."""
        return PeerStats(rank, pid, *self._flow.progress(rank))

    def holding_back(self) -> dict[int, int] | None:
        """Look at the readers that leave no room: slot to cursor; None if there is room."""
        if self._lacks is None:
            return None
        flow = self._flow
        return {-1 - rank: flow.cursor(rank) for rank in flow.slowest()}

    def held_back(self) -> str | None:
        """Say what is on its way, if that is what keeps the writer waiting."""
        if self._lacks is None:
            return None
        box = self.outbox
        if self._lacks <= box.largest_small:
            return f"{box.small} of {box.small_limit} bytes are on their way to other machines"
        return f"{box.large} of max_overflow_bytes={box.large_limit} bytes are on their way"

    def drained(self) -> bool | None:
        """True once every reader that is not dead has all, and knows it; None before."""
        return None if self._flow.live_ranks else True

    def unread(self) -> str:
        """Say who has not read all."""
        ranks = ", ".join(f"rank {rank}" for rank in self._flow.live_ranks)
        return f"{self.outbox.waiting} messages to other machines are not read by {ranks}"

    def stats(self) -> RemoteStats:
        """Give the counts."""
        box = self.outbox
        breaches = self._flow.breaches + self.router.strangers
        return RemoteStats(box.waiting, box.small + box.large, breaches)

    def close(self) -> None:
        """Close the socket; what was not acknowledged is lost. Safe to call twice."""
        for timer in self._away.values():
            timer.cancel()
        self._away.clear()
        self.router.close()


def place_for(
    ranks: tuple[int, ...],
    connect_ip: str | None,
    bind_ip: str | None,
    port: int,
    peer_timeout: float,
) -> Place:
    """Decide on the addresses.

    Raises:
        ValueError: a wildcard.
        OSError: no address of this machine.
    """
    bind = None if bind_ip is None else network.resolve("bind_ip", bind_ip)
    if connect_ip is not None:
        connect = network.resolve("connect_ip", connect_ip)
    else:
        connect = bind or network.own_address()
    network.check_own("connect_ip" if bind is None else "bind_ip", bind or connect)
    return Place(ranks, connect, bind or connect, port, peer_timeout)
