"""The writing end: one line of tasks, one ring, all or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from threading import get_ident
from typing import Any, NoReturn

from aioshm.codec import Buffer
from aioshm.ends.admitting import AdmittingEnd
from aioshm.ends.lease import WriteLease
from aioshm.ends.patience import slowest
from aioshm.ends.stats import PeerStats
from aioshm.errors import EncodeError, MessageTooLarge, QueueFull, QueueShutDown
from aioshm.shm.segment import Segment

logger = logging.getLogger("aioshm")


class WriterEnd(AdmittingEnd):
    """The writing end of a queue; `MessageQueue.create` makes it and documents the arguments."""

    # -- writing ------------------------------------------------------------------------------

    async def enqueue(self, obj: Any, timeout: float | None = None) -> None:
        """Write one object for every reader, as soon as there is room.

        When it returns, the object is the caller's again, to change or to free.

        Args:
            obj: whatever the codec takes.
            timeout: seconds to wait for room, None for ever, 0 tries once.

        Raises:
            TimeoutError: there was no room in time; nothing was written.
            EncodeError: the codec could not take the object.
            MessageTooLarge: it has more bytes than max_overflow_bytes.
            ReaderDied: a reader died, and ``on_reader_death`` is ``"raise"``.
            QueueShutDown: this writer was closed.

        Cancelling it writes nothing.
        """
        encode = self._encode  # called as a method it takes 30 ns more
        try:
            frames = encode(obj)
        except Exception as error:
            self._raise_encode(obj, error)
        short, ring = self._short, self._ring
        try:
            if short and get_ident() == self._thread and self._runs():
                self._short = short - 1
                if ring.try_write(frames):
                    if ring.owed:
                        self._pay()
                    return
        except MessageTooLarge:
            pass  # for the ring; the other attempts know another way
        await self._enqueue_later(frames, timeout)

    async def _enqueue_later(self, frames: Sequence[Buffer], timeout: float | None) -> None:
        await self._wait(lambda: self._try_write(frames), timeout)

    def enqueue_nowait(self, obj: Any) -> None:
        """Write one object for every reader, now.

        Raises:
            QueueFull: there is no room, not all readers have joined, or other tasks wait.
            EncodeError, MessageTooLarge, ReaderDied, QueueShutDown: as `enqueue`.
        """
        self._bind_nowait()
        try:
            frames = self._encode(obj)
        except Exception as error:
            self._raise_encode(obj, error)
        if self._waiter.length and not self._closed:
            raise QueueFull(f"{self._who}: other tasks wait to write, or hold a lease")
        if not self._try_write(frames):
            raise QueueFull(f"{self._who}: {self._held_back()}")

    def _raise_encode(self, obj: Any, error: Exception) -> NoReturn:
        raise EncodeError(
            f"{self._who}: {self._codec!r} cannot encode this {type(obj).__name__}: {error}"
        ) from error

    def _try_write(self, frames: Sequence[Buffer]) -> bool | None:
        if not self._check_ready():
            return None
        while not self._ring.try_write(frames):
            if not self._evict_stuck():
                return None
        self._pay()
        return True

    def _try_claim(self, nbytes: int) -> slice | None:
        if not self._check_ready():
            return None
        while (where := self._ring.claim(nbytes)) is None and self._evict_stuck():
            pass  # there is room now, or another reader leaves none
        return where

    def _evict_stuck(self) -> bool:
        """Evict the readers that held this writer back for too long; tell if there were any."""
        if self._patience is None:
            return False
        stuck = self._patience.lost_with(time.monotonic(), self._holding_back())
        for slot in stuck:
            member = self._evict(self._roster.slots[slot].rank)
            logger.warning(
                "%s: rank %d (pid %d) held it back for %.3g s and did not move; evicted, the "
                "others go on", self._who, member.rank, member.pid, self._patience.seconds,
            )  # fmt: skip
        return bool(stuck)

    def _holding_back(self) -> dict[int, int]:
        return self._ring.holding_back()

    def acquire_write(self, nbytes: int, timeout: float | None = None) -> WriteLease:
        """Write ``nbytes`` in place: ``async with queue.acquire_write(n) as lease: ...``.

        Entering waits for room. ``lease.buffer`` is that memory, writable, with whatever
        bytes were there; ``lease.nbytes = n`` publishes less of it. Left normally, readers
        dequeue it as ``bytes``; left by an exception or a cancel, nothing was written.
        Other enqueues wait meanwhile; one from the same task raises RuntimeError.

        Args:
            nbytes: bytes wanted, up to max_chunk_bytes.
            timeout: seconds to wait for room, None for ever, 0 tries once.

        Raises:
            BufferError: views of the buffer are alive when the block is left.
            ValueError: a negative size.
            MessageTooLarge: more than max_chunk_bytes; only `enqueue` takes more.
            TimeoutError, ReaderDied, QueueShutDown: as `enqueue`.
        """
        if nbytes < 0:
            raise ValueError(f"acquire_write: {nbytes} bytes where 0 or more were expected")

        async def claim() -> tuple[Segment, slice]:
            where = await self._wait(lambda: self._try_claim(nbytes), timeout, hold=True)
            return self._claimed_in(), where

        return WriteLease(nbytes, claim, self._commit, self._waiter.leave)

    def _claimed_in(self) -> Segment:
        return self._segments[0]

    def _commit(self, nbytes: int) -> None:
        if self._closed:
            raise QueueShutDown(f"{self._who} was closed inside the lease; nothing was written")
        self._ring.commit(nbytes)
        self._pay()

    # -- saying what is going on --------------------------------------------------------------

    def _late(self, waited: float, over: bool) -> None:
        if over:
            raise TimeoutError(f"{self._who} waited {waited:.3g} s: {self._held_back()}")
        if self._warnings.due(waited):
            logger.warning(
                "%s has waited %.0f s: %s; long work in a reader, such as compilation, is a "
                "usual cause", self._who, waited, self._held_back(),
            )  # fmt: skip

    def _held_back(self) -> str:
        if not self._ready:
            return f"waiting for {self._missing()}"
        return f"the ring of {self._layout.capacity} bytes has no room: {slowest(self._peers())}"

    def _peers(self) -> tuple[PeerStats, ...]:
        return self._roster.peers(self._ring.cursors(), self._ring.position)

    # -- leaving ------------------------------------------------------------------------------

    def _leave(self) -> None:
        self._ring.close()
        self._pay()
        self._server.close(goodbye=True)
