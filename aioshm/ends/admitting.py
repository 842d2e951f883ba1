"""The writing end as its readers meet it: who is let in, who left, and what becomes of the lost.

It makes the ring and the link, keeps the roster, and rings the bells that are owed; the
writing itself is in writer.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from aioshm.codec import Codec
from aioshm.ends.end import End
from aioshm.ends.patience import Patience, Warnings
from aioshm.ends.roster import Member, Roster
from aioshm.errors import (
    AdmissionRefused,
    QueueShutDown,
    ReaderDied,
)
from aioshm.handle import Handle
from aioshm.links import hello
from aioshm.links.connection import Connection
from aioshm.links.local import LocalServer
from aioshm.shm.doorbell import Doorbell
from aioshm.shm.layout import Layout
from aioshm.shm.ring import RingWriter
from aioshm.shm.segment import Segment
from aioshm.waiting import Backoff, Parking

logger = logging.getLogger("aioshm")

_SPARE_SLOTS = 62


class AdmittingEnd(End):
    """What a writing end is to its readers; `MessageQueue.create` documents the arguments."""

    _patience: Patience | None = None

    def __init__(
        self,
        ranks: Sequence[int],
        *,
        remote_ranks: Sequence[int] = (),
        max_chunk_bytes: int,
        max_chunks: int,
        codec: Codec,
        codec_pickle: bytes,
        backoff: Backoff,
        evict_dead: bool,
        evict_after: float | None,
        warn_after: float,
        name: str,
    ) -> None:
        token = os.urandom(32)
        slots = 2 * len(ranks) + _SPARE_SLOTS
        self._layout = layout = Layout.for_queue(max_chunk_bytes, max_chunks, slots)
        self._evict_dead = evict_dead
        self._warnings = Warnings(warn_after)
        if evict_after is not None:
            self._patience = Patience(evict_after)
            backoff = self._patience.looks_often(backoff)
        self._roster = Roster(ranks, layout.slots, remote_ranks)
        self._server = self._link = self._listen(name, token, 2 * len(ranks) + 16)
        try:
            handle = Handle(
                name=name,
                path=self._server.path,
                token=token.hex(),
                ranks=self._roster.ranks,
                pid=os.getpid(),
                codec=codec_pickle.hex(),
            )
            super().__init__(handle, codec, backoff)
            self._bell = Doorbell()
            self._bells.append(self._bell)
            self._ring = self._make_ring(name)
            self._parking: Parking = self._ring
        except BaseException:
            self._closed = True
            self._server.close()
            for item in (*getattr(self, "_bells", ()), *getattr(self, "_segments", ())):
                item.close()
            raise
        logger.debug("%s listens at %s", self._who, self._server.path)

    def _listen(self, name: str, token: bytes, backlog: int) -> LocalServer:
        return LocalServer(self, name, token, backlog)

    def _make_ring(self, name: str) -> RingWriter:
        layout = self._layout
        data = Segment.create(f"aioshm-{name}-data", layout.data_bytes, words=layout.records)
        self._segments.append(data)
        control_bytes = layout.control_bytes
        control = Segment.create(f"aioshm-{name}-control", control_bytes, words=control_bytes)
        self._segments.append(control)
        ring = RingWriter(data, control, layout)
        data.seal(future_writes=True)
        control.seal(future_writes=False)
        return ring

    # -- meeting the readers --------------------------------------------------------------

    @property
    def _who(self) -> str:
        return f"writer of queue {self._handle.name!r} (pid {self._handle.pid})"

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._server.start(loop)

    def _check_ready(self) -> bool | None:
        if self._closed:
            raise QueueShutDown(f"{self._who} was closed")
        if self._roster.dead:
            self._raise_dead()
        return self._ready or None

    def _missing(self) -> str:
        return f"ranks {self._roster.missing()} to join, of {list(self._roster.ranks)}"

    def admit(self, connection: Connection, rank: int) -> tuple[hello.Welcome, tuple[int, ...]]:
        """Let a reader in; called by the link."""
        if self._closed:
            raise AdmissionRefused("the queue is closed")
        try:
            bell = Doorbell()
        except OSError as error:
            raise AdmissionRefused(f"the writer has no descriptor left for rank {rank}") from error
        before = self._roster.dead.get(rank)
        try:
            member = self._roster.join(rank, connection.pid, connection, bell)
        except AdmissionRefused:
            bell.close()
            raise
        if before is not None and self._roster.holds_slot(before):
            self._ring.evict(before.slot)
        self._bells.append(bell)
        position = self._ring.admit(member.slot, f"rank {rank} (pid {connection.pid})")
        logger.info("%s: rank %d joined (pid %d)", self._who, rank, connection.pid)
        self._gather()
        layout = self._layout
        welcome = hello.Welcome(
            payload=layout.payload,
            slot_bytes=layout.slot,
            chunks=layout.chunks,
            slots=layout.slots,
            slot=member.slot,
            position=position,
            number=self._ring.number,
            ready=self._ready,
            pid=os.getpid(),
        )
        data, control = self._segments
        return welcome, (data.fileno(), control.fileno(), bell.fileno(), self._bell.fileno())

    def _gather(self) -> None:
        """Look whether all have joined, and whether calls may take the short path."""
        if not self._ready and self._roster.complete():
            self._ready = True
            # Not before: until all have joined there is nothing in the ring to park at.
            self._waiter.start(self._bell, self._parking)
            self._server.broadcast(hello.READY)
        self._set_open(self._ready and not self._closed and not self._roster.dead)
        self._changed()

    def departed(self, connection: Connection, *, goodbye: bool) -> None:
        """A reader's link ended; called by the link."""
        position = self._ring.position
        member = self._roster.part(connection, died=not goodbye)
        if goodbye:
            self.exited(connection)
        if member is None:
            return  # evicted before
        if goodbye:
            logger.info("%s: rank %d left (pid %d)", self._who, member.rank, member.pid)
        elif self._evict_dead:
            logger.warning(
                "%s: rank %d died (pid %d) at position %d; evicted, the others go on",
                self._who, member.rank, member.pid, position,
            )  # fmt: skip
            self._evict(member.rank)
        else:
            logger.info("%s: rank %d died (pid %d)", self._who, member.rank, member.pid)
        self._gather()

    def exited(self, connection: Connection) -> None:
        """The process of a reader can touch its slot no more; called by the link."""
        member = self._roster.slot_is_free(connection)
        if member is not None:
            self._ring.forget(member.slot)
            self._bells = [bell for bell in self._bells if bell is not member.bell]
            member.bell.close()

    def evict(self, rank: int) -> None:
        """Go on without the reader of this rank, whether it is slow, stuck or dead.

        It gets `Evicted` when it moves again; the rank is free for another reader, which
        starts with the next message. Nothing waits.

        Raises:
            ValueError: nobody has that rank.
        """
        self._bind()
        if self._closed:
            raise QueueShutDown(f"{self._who} was closed")
        member = self._evict(rank)
        logger.info("%s: rank %d evicted (pid %d)", self._who, rank, member.pid)
        self._gather()

    def _evict(self, rank: int) -> Member:
        member = self._off_roster(rank)
        if self._roster.holds_slot(member):
            self._ring.evict(member.slot)
        self._pay()
        return member

    def _off_roster(self, rank: int) -> Member:
        member = self._roster.evict(rank)
        if member is None:
            raise ValueError(
                f"{self._who}: nobody has rank {rank}; ranks taken are {sorted(self._roster.live)}"
            )
        return member

    def _raise_dead(self) -> None:
        rank, member = next(iter(self._roster.dead.items()))
        raise ReaderDied(
            f"reader rank {rank} (pid {member.pid}) died, and {self._who} at position "
            f"{self._ring.position} writes nothing until a reader takes the rank again or "
            f"evict({rank}) is called",
            rank=rank,
            pid=member.pid,
        )

    def _pay(self) -> None:
        """Ring the bells that are owed; each is struck off only once it rang."""
        owed = self._ring.owed
        while owed:
            member = self._roster.slots.get(owed[-1])
            if member is not None:
                member.bell.ring()
                self._rung += 1
            owed.pop()
