"""The two ends with overflow: messages that do not fit the ring go another way.

`WriterEnd` and `ReaderEnd` are whole without it and know only the ring; here each
attempt of theirs, to write, to read, to borrow, learns what to do with a message that the
ring cannot take.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from aioshm.codec import Buffer
from aioshm.ends.lease import BodyWindow, Window
from aioshm.ends.overflow_reader import OverflowReader
from aioshm.ends.overflow_writer import OverflowWriter
from aioshm.ends.reader import ReaderEnd
from aioshm.ends.roster import Member
from aioshm.ends.stats import WriterStats
from aioshm.ends.writer import WriterEnd
from aioshm.links.connection import Connection
from aioshm.links.hello import Welcome
from aioshm.links.weakly import weakly
from aioshm.shm.layout import OBJECT, OVERFLOW
from aioshm.shm.ring import Record
from aioshm.waiting import Parking, turn

logger = logging.getLogger("aioshm")


class Bodies(Protocol):
    """What leaves with the writer: messages that readers have to be given time for."""

    def drained(self) -> bool | None:
        """True once readers have all, None before."""

    def unread(self) -> str:
        """Say what is on its way, and to whom."""


class OverflowingWriter(WriterEnd):
    """A writing end whose messages may be larger than the ring's chunks.

    Args:
        max_overflow_bytes: bytes of such messages that some reader has not read.
    """

    _overflow: OverflowWriter

    def __init__(self, ranks: Sequence[int], *, max_overflow_bytes: int, **options: Any) -> None:
        super().__init__(ranks, **options)
        path = f"{self._server.path}.overflow"
        self._parking = self._overflow = OverflowWriter(
            self._who, path, self._ring, max_overflow_bytes, weakly(self._changed)
        )

    # -- readers come and go -----------------------------------------------------------

    def admit(self, connection: Connection, rank: int) -> tuple[Welcome, tuple[int, ...]]:
        """Let a reader in; called by the link."""
        welcome, fds = super().admit(connection, rank)
        peer, key, overflow = self._overflow.admit(self._roster.live[rank])
        return replace(welcome, peer=peer, key=key, overflow=overflow), fds

    def departed(self, connection: Connection, *, goodbye: bool) -> None:
        """A reader's link ended; called by the link."""
        super().departed(connection, goodbye=goodbye)
        self._overflow.keep(self._roster.live.values())

    def _evict(self, rank: int) -> Member:
        member = super()._evict(rank)
        self._overflow.keep(self._roster.live.values())
        # One that waits for a body has parked without asking for a bell.
        member.bell.ring()
        return member

    # -- writing -------------------------------------------------------------------------

    async def _enqueue_later(self, frames: Sequence[Buffer], timeout: float | None) -> None:
        if not self._layout.fits([len(frame) for frame in frames]):
            self._bind()
            # To copy a body takes as long as to send one. Without a turn for the pump before
            # each, a writer would first fill the window and only then begin to send.
            await turn()
        await super()._enqueue_later(frames, timeout)

    def _try_write(self, frames: Sequence[Buffer]) -> bool | None:
        lengths = [len(frame) for frame in frames]
        if self._layout.fits(lengths):
            self._overflow.stand_aside()
            return super()._try_write(frames)
        if not self._check_ready():
            return None
        while not self._overflow.try_write(frames, sum(lengths)):
            if not self._evict_stuck():
                return None
        self._pay()
        return True

    def _try_claim(self, nbytes: int) -> slice | None:
        self._overflow.stand_aside()
        return super()._try_claim(nbytes)

    def _holding_back(self) -> dict[int, int]:
        return self._overflow.holding_back()

    # -- saying what is going on, leaving ----------------------------------------------

    def _held_back(self) -> str:
        return (self._overflow.held_back() if self._ready else None) or super()._held_back()

    def stats(self) -> WriterStats:
        """Give this end's counts, and how far behind each reader is."""
        ring = self._ring
        peers = () if self._closed else self._peers()
        dead = tuple(self._roster.dead)
        return WriterStats(
            ring.number, ring.position, self._layout.capacity, self._rung, peers, dead,
            self._wait_stats(), self._overflow.stats(),
        )  # fmt: skip

    async def _drain(self, timeout: float) -> None:
        if self._overflow.drained():
            return
        # A reader that has all may leave; it need not wait for one that has not.
        self._ring.close()
        self._pay()
        await self._wait_until_read(self._overflow, timeout)

    async def _wait_until_read(self, bodies: Bodies, timeout: float) -> None:
        def late(waited: float, over: bool) -> None:
            if over:
                raise TimeoutError(
                    f"{self._who} closes after {waited:.3g} s although {bodies.unread()}; for "
                    "what they have not got they raise Gap"
                )

        try:
            await self._gathering.wait(bodies.drained, timeout, late)
        except TimeoutError as error:
            logger.warning("%s", error)

    def _leave(self) -> None:
        super()._leave()
        self._overflow.close()


class OverflowingReader(ReaderEnd):
    """A reading end that gets messages larger than the ring's chunks too."""

    _overflow: OverflowReader | None = None
    _welcome: Welcome | None = None

    def joined(self, welcome: Welcome, fds: list[int]) -> None:
        """The writer let us in; called by the link."""
        self._welcome = welcome
        super().joined(welcome, fds)

    def _parking(self) -> Parking:
        welcome = self._welcome
        assert welcome is not None
        assert self._ring is not None
        path = os.path.join(os.path.dirname(self._handle.path), welcome.overflow)
        self._overflow = OverflowReader(
            self._ring, path, welcome.peer, welcome.key, self._client.pid, weakly(self._changed)
        )
        return self._overflow

    def writer_gone(self) -> None:
        """The writer's link ended; called by the link."""
        if self._overflow is not None:
            self._overflow.writer_gone()
        super().writer_gone()

    # -- reading ---------------------------------------------------------------------------

    def _try_read(self) -> Record | None:
        record = super()._try_read()
        if record is None or record[0] != OVERFLOW:
            return record
        body = self._look(record)
        if body is None:
            return None
        self._consume()
        return OBJECT, body

    def _try_lease(self) -> tuple[int, Window] | None:
        found = self._try_borrow()
        if found is None or found[0] != OVERFLOW:
            return None if found is None else (found[0], Window(self._segments[0], found[1]))
        assert self._ring is not None
        marker = self._ring.try_read()
        assert marker is not None
        body = self._look(marker)
        return None if body is None else (OBJECT, BodyWindow(body))

    def _look(self, marker: Record) -> Sequence[Buffer] | None:
        assert self._overflow is not None
        try:
            return self._overflow.look(self._who, marker[1][0])
        finally:
            self._pay()  # a gap is consumed, and raised

    def _consume(self) -> None:
        if self._closed or self._overflow is None or not self._overflow.consume():
            super()._consume()
        else:
            self._pay()

    def _leave(self) -> None:
        super()._leave()
        if self._overflow is not None:
            self._overflow.close()
