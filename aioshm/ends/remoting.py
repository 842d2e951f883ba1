"""The writing end with readers on other machines: each message also enters their outbox.

`OverflowingWriter` is whole without it and knows only this machine; here each of its
attempts asks the outbox for room first, and whatever the ring took goes to the outbox in the
same step. A queue without readers on this machine has a ring where everything fits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from threading import get_ident
from typing import Any, cast

from aioshm.codec import Buffer
from aioshm.ends.absent import NoRing, NoServer
from aioshm.ends.outbox import OVERHEAD
from aioshm.ends.overflowing import OverflowingWriter
from aioshm.ends.patience import slowest
from aioshm.ends.remote_writer import Place, RemoteWriter
from aioshm.ends.roster import Member
from aioshm.ends.stats import PeerStats, WriterStats
from aioshm.links.curve import new_keys
from aioshm.links.flow_batch import SMALL
from aioshm.links.local import LocalServer
from aioshm.shm.layout import OBJECT, RAW
from aioshm.shm.ring import RingWriter
from aioshm.shm.segment import Segment

logger = logging.getLogger("aioshm")


class RemotingWriter(OverflowingWriter):
    """A writing end some of whose readers are on other machines.

    Args:
        place: which, and where they connect.
    """

    def __init__(
        self, ranks: Sequence[int], *, place: Place, max_overflow_bytes: int, **options: Any
    ) -> None:
        self._here = bool(ranks)
        self._claimed_at = 0
        super().__init__(
            ranks, remote_ranks=place.ranks, max_overflow_bytes=max_overflow_bytes, **options
        )
        try:
            keys, secret = new_keys()
            payload, chunks = self._layout.payload, self._layout.chunks
            self._remote = RemoteWriter(
                self,
                self._who,
                place,
                bytes.fromhex(self._handle.token),
                keys,
                secret,
                (payload, payload * chunks, max_overflow_bytes),
            )
        except BaseException:
            self._closed = True
            self._server.close()
            for bell in self._bells:
                bell.close()
            for segment in self._segments:
                segment.close()
            raise
        self._outbox, self._router = self._remote.outbox, self._remote.router
        # What fits neither a batch nor the ring goes the longer way.
        self._most = min(SMALL, payload) + OVERHEAD
        self._handle = replace(
            self._handle,
            remote_ranks=place.ranks,
            address=self._remote.address,
            server_key=keys.server,
            client_public=keys.public,
            client_secret=keys.secret,
            peer_timeout=place.peer_timeout,
        )
        self._parking = self._remote.over(self._parking)
        logger.debug(
            "%s listens at %s port %s for %s",
            self._who, place.bind, self._remote.port, self._remote.address,
        )  # fmt: skip

    def _listen(self, name: str, token: bytes, backlog: int) -> LocalServer:
        if self._here:
            return super()._listen(name, token, backlog)
        return cast(LocalServer, NoServer())

    def _make_ring(self, name: str) -> RingWriter:
        if self._here:
            return super()._make_ring(name)
        return cast(RingWriter, NoRing(self._layout.payload))

    # -- readers come and go -----------------------------------------------------------

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._start(loop)
        self._remote.start(loop)

    def _gather(self) -> None:
        before = self._ready
        super()._gather()
        if self._ready and not before:
            self._remote.tell(ready=True)

    def remote_joined(self, rank: int, pid: int, address: str) -> None:
        """A reader joined, or came back from the dead; called by the link."""
        self._roster.join_remote(rank, pid)
        logger.info("%s: rank %d joined (pid %d at %s)", self._who, rank, pid, address)
        self._gather()

    def remote_left(self, rank: int) -> None:
        """A reader said goodbye; called by the link."""
        member = self._roster.part_remote(rank, died=False)
        if member is not None:
            logger.info("%s: rank %d left (pid %d)", self._who, rank, member.pid)
        self._gather()

    def remote_died(self, rank: int) -> None:
        """A reader was away for too long; called by the link."""
        member = self._roster.part_remote(rank, died=True)
        if member is None:
            return
        away = f"(pid {member.pid}) was away for {self._handle.peer_timeout:g} s"
        if self._evict_dead:
            logger.warning("%s: rank %d %s; evicted, the others go on", self._who, rank, away)
            self._roster.evict(rank)
            self._remote.let_go(rank)
        else:
            logger.info("%s: rank %d %s", self._who, rank, away)
        self._gather()

    def remote_moved(self) -> None:
        """There may be room, or nothing left to wait for; called by the link."""
        self._changed()

    def _evict(self, rank: int) -> Member:
        if rank not in self._handle.remote_ranks:
            return super()._evict(rank)
        member = self._off_roster(rank)
        self._remote.evict(rank)
        return member

    # -- writing -------------------------------------------------------------------------

    async def enqueue(self, obj: Any, timeout: float | None = None) -> None:
        """Write one object for every reader, as soon as there is room; as `WriterEnd.enqueue`."""
        encode = self._encode  # called as a method it takes 30 ns more
        try:
            frames = encode(obj)
        except Exception as error:
            self._raise_encode(obj, error)
        short, outbox, router = self._short, self._outbox, self._router
        payload = frames[0]
        cost = len(payload) + OVERHEAD
        if (
            short
            and cost <= self._most
            and cost <= outbox.room
            and type(payload) is bytes
            and len(frames) == 1
            and get_ident() == self._thread
            and self._runs()
        ):
            self._short = short - 1
            ring = self._ring
            number = ring.number
            if not outbox.payloads:
                outbox.first = number
            if not router.due:
                # With every message: an interrupt may have struck the pump that was due.
                router.wake()
            try:
                written = ring.try_write(frames)
            finally:
                if ring.number != number:
                    # An interrupt finds no call but the last where it could come in between.
                    outbox.room -= cost
                    outbox.payloads.append(payload)
            if written:
                if ring.owed:
                    self._pay()
                return
        await self._enqueue_later(frames, timeout)

    def _try_write(self, frames: Sequence[Buffer]) -> bool | None:
        if not self._check_ready():
            return None
        nbytes = sum(map(len, frames))
        while not self._remote.has_room(nbytes):
            if not self._evict_stuck():
                return None
        number = self._ring.number
        try:
            if not self._here:
                return self._ring.try_write(frames)
            return super()._try_write(frames)
        finally:
            # Also if an interrupt came behind the ring's last store: what local readers get,
            # the others get too.
            if self._ring.number != number:
                self._outbox.append(OBJECT, number, frames)
                self._router.wake()

    def _try_claim(self, nbytes: int) -> slice | None:
        if not self._check_ready():
            return None
        while not self._remote.has_room(nbytes):
            if not self._evict_stuck():
                return None
        where = super()._try_claim(nbytes)
        if where is not None:
            self._claimed_at = where.start
        return where

    def _claimed_in(self) -> Segment:
        if self._here:
            return super()._claimed_in()
        return cast(Segment, cast(NoRing, self._ring).scratch)

    def _commit(self, nbytes: int) -> None:
        number, at = self._ring.number, self._claimed_at
        with memoryview(self._claimed_in().raw) as whole:
            written = bytes(whole[at : at + nbytes])
        try:
            super()._commit(nbytes)
        finally:
            if self._ring.number != number:
                self._outbox.append(RAW, number, [written])
                self._router.wake()

    def _holding_back(self) -> dict[int, int]:
        holding = self._remote.holding_back()
        return super()._holding_back() if holding is None else holding

    # -- saying what is going on, leaving ----------------------------------------------

    def _held_back(self) -> str:
        held_back = self._remote.held_back() if self._ready else None
        if held_back is None:
            return super()._held_back()
        return f"{held_back}: {slowest(self._remote_peers())}"

    def _remote_peers(self) -> list[PeerStats]:
        return [
            self._remote.peer(rank, member.pid)
            for rank, member in self._roster.live.items()
            if rank in self._handle.remote_ranks
        ]

    def _peers(self) -> tuple[PeerStats, ...]:
        peers = (*super()._peers(), *self._remote_peers())
        return tuple(sorted(peers, key=lambda peer: peer.rank))

    def stats(self) -> WriterStats:
        """Give this end's counts, and how far behind each reader is."""
        return replace(super().stats(), remote=self._remote.stats())

    async def _drain(self, timeout: float) -> None:
        started = time.monotonic()
        self._remote.tell(ready=self._ready, closed=True)
        await super()._drain(timeout)
        if not self._remote.drained():
            left = max(0.0, timeout - (time.monotonic() - started))
            await self._wait_until_read(self._remote, left)

    def _leave(self) -> None:
        super()._leave()
        self._remote.close()

    def _drop(self) -> None:
        remote = self._remote
        super()._drop()
        loop = self._loop
        if loop is None or loop.is_closed() or get_ident() == self._thread:
            remote.close()
        else:
            loop.call_soon_threadsafe(remote.close)
