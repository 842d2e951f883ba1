"""The reading end: joins by its link, drains the ring, and says how the writer ended."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import pickle
from collections.abc import Sequence
from threading import get_ident
from typing import Any, NoReturn, Self

from aioshm.codec import Buffer
from aioshm.ends.end import End
from aioshm.ends.lease import ReadLease, Window
from aioshm.ends.stats import ReaderStats, WaitStats
from aioshm.errors import (
    AdmissionRefused,
    AioshmError,
    DecodeError,
    QueueEmpty,
    QueueShutDown,
    WriterDied,
)
from aioshm.handle import Handle
from aioshm.links.hello import Welcome
from aioshm.links.local_client import LocalClient
from aioshm.shm.doorbell import Doorbell
from aioshm.shm.layout import OBJECT, RAW, Layout
from aioshm.shm.ring import Record, RingReader
from aioshm.shm.segment import Segment
from aioshm.waiting import Backoff, Parking

logger = logging.getLogger("aioshm")


class ReaderEnd(End):
    """The reading end of a queue; `MessageQueue.create_from_handle` makes it."""

    def __init__(self, handle: Handle, rank: int, backoff: Backoff) -> None:
        self._rank = rank
        self._knock(handle, rank)
        try:
            codec = pickle.loads(bytes.fromhex(handle.codec))
        except Exception as error:
            raise DecodeError(f"the handle's codec cannot be loaded: {error}") from error
        super().__init__(handle, codec, backoff)
        self._ring: RingReader | None = None
        self._writer_bell: Doorbell | None = None
        self._writer_gone = False
        self._failure: AioshmError | None = None

    # -- joining ----------------------------------------------------------------------------

    def _knock(self, handle: Handle, rank: int) -> None:
        token = bytes.fromhex(handle.token)
        self._client = self._link = LocalClient(self, handle.path, token, rank)

    @property
    def _who(self) -> str:
        at = "" if self._ring is None else f" at position {self._ring.position}"
        return f"reader rank {self._rank} of queue {self._handle.name!r} (pid {os.getpid()}){at}"

    @property
    def rank(self) -> int:
        """The rank this reader asked for."""
        return self._rank

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._client.start(loop)

    def _missing(self) -> str:
        if self._ring is None:
            return f"the writer (pid {self._handle.pid}) to let it in: is its loop running?"
        return "the other readers to join"

    def joined(self, welcome: Welcome, fds: list[int]) -> None:
        """The writer let us in; called by the link."""
        layout = Layout(welcome.payload, welcome.slot_bytes, welcome.chunks, welcome.slots)
        data_fd, control_fd, bell_fd, writer_bell_fd = fds
        bell, self._writer_bell = Doorbell(bell_fd), Doorbell(writer_bell_fd)
        self._bells += [bell, self._writer_bell]
        try:
            try:
                data = Segment.attach(
                    data_fd, layout.data_bytes, writable=False, words=layout.records
                )
                self._segments.append(data)
            except BaseException:
                os.close(control_fd)
                raise
            nbytes = layout.control_bytes
            control = Segment.attach(control_fd, nbytes, writable=True, words=nbytes)
            self._segments.append(control)
        except (AioshmError, OSError) as error:
            self.refused(
                error
                if isinstance(error, AioshmError)
                else AdmissionRefused(
                    f"cannot map the queue's memory: {error}; raise this process's limits "
                    "(ulimit -n, ulimit -v) and join again"
                )
            )
            self._client.close()
            return
        data.close_fd()
        control.close_fd()
        slot, position = welcome.slot, welcome.position
        self._ring = RingReader(data, control, layout, slot, position, self._who)
        self._ring.number = welcome.number
        logger.debug("%s joined the writer (pid %d)", self._who, welcome.pid)
        if welcome.ready:
            self.ready()

    def _parking(self) -> Parking:
        assert self._ring is not None
        return self._ring

    def ready(self) -> None:
        """All readers have joined; called by the link."""
        # Parking begins with reading: the writer may write as soon as all have joined, and
        # until this very call a message would end each sleep and still not be read.
        self._waiter.start(self._bells[0], self._parking())
        self._ready = True
        self._set_open(True)
        self._changed()

    def writer_gone(self) -> None:
        """The writer's link ended; called by the link."""
        self._writer_gone = True
        self._changed()

    def refused(self, error: AioshmError) -> None:
        """We did not get in; called by the link."""
        error.args = (f"{self._who}: {error}",)
        self._failure = error
        self._set_open(False)
        self._changed()

    def _check_ready(self) -> bool | None:
        if self._failure is not None:
            raise copy.copy(self._failure)
        if self._closed:
            raise QueueShutDown(f"{self._who} was closed")
        if self._ready:
            return True
        if self._writer_gone:
            self._raise_end()
        return None

    # -- reading ----------------------------------------------------------------------------

    async def dequeue(self, timeout: float | None = None) -> Any:
        """Read the next message, as soon as there is one.

        What it returns belongs to the caller and shares no memory with the queue.

        Args:
            timeout: seconds to wait for a message, None for ever, 0 tries once.

        Raises:
            TimeoutError: none came in time; one that comes later is not lost.
            QueueShutDown: the writer (or this reader) closed, and all was read.
            WriterDied: the writer died, and all it had written was read.
            Evicted: the writer went on without this reader.
            Gap: the writer ended with a large message still on its way; the next call goes
                on after it.
            DecodeError: the codec could not take the message; just that one is consumed.
            AdmissionRefused: the writer did not let this reader in.
            SegmentError: the shared memory is not what it should be.

        Cancelling it consumes nothing.
        """
        short, ring = self._short, self._ring
        if short and get_ident() == self._thread and self._runs() and ring is not None:
            self._short = short - 1
            record = ring.try_read()
            if record is not None:
                if ring.owed:
                    self._pay()
                kind, frames = record
                if kind == OBJECT:
                    decode = self._decode_frames  # called as a method it takes 30 ns more
                    try:
                        return decode(frames)
                    except Exception as error:
                        self._raise_decode(error)
                if kind == RAW:
                    return frames[0]
        return self._decode(await self._wait(self._try_read, timeout))

    def dequeue_nowait(self) -> Any:
        """Read the next message, if there is one now.

        Raises:
            QueueEmpty: there is none, not all have joined, or other tasks wait.
            QueueShutDown, WriterDied, Evicted, Gap, DecodeError, AdmissionRefused,
            SegmentError: as `dequeue`.
        """
        self._bind_nowait()
        if self._waiter.length and not self._closed:
            raise QueueEmpty(f"{self._who}: other tasks wait to read, or hold a lease")
        record = self._try_read()
        if record is None:
            raise QueueEmpty(f"{self._who}: nothing to read now, or not all of it")
        return self._decode(record)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.dequeue()
        except QueueShutDown:
            raise StopAsyncIteration from None

    def _try_read(self) -> Record | None:
        if not self._check_ready():
            return None
        assert self._ring is not None
        record = self._ring.try_read()
        if record is None and (self._writer_gone or self._ring.is_closed()):
            # The end was seen after the look at `written`; what was written in between
            # comes first.
            record = self._ring.try_read()
            if record is None:
                self._raise_end()
        self._pay()
        return record

    def _try_borrow(self) -> tuple[int, list[slice]] | None:
        if not self._check_ready():
            return None
        assert self._ring is not None
        found = self._ring.borrow()
        if found is None and (self._writer_gone or self._ring.is_closed()):
            found = self._ring.borrow()
            if found is None:
                self._raise_end()
        return found

    def _raise_end(self) -> None:
        if self._ring is not None and self._ring.is_closed():
            raise QueueShutDown(
                f"{self._who}: the writer (pid {self._handle.pid}) closed, and everything it "
                "wrote was read"
            )
        number = 0 if self._ring is None else self._ring.number
        raise WriterDied(
            f"{self._who}: the writer (pid {self._handle.pid}) died; everything it had written, "
            f"up to message {number}, was read",
            pid=self._handle.pid,
        )

    def _decode(self, record: Record) -> Any:
        kind, frames = record
        return self._decode_object(frames) if kind == OBJECT else frames[0]

    def _decode_object(self, frames: Sequence[Buffer]) -> Any:
        try:
            return self._decode_frames(frames)
        except Exception as error:
            self._raise_decode(error)

    def _raise_decode(self, error: Exception) -> NoReturn:
        raise DecodeError(
            f"{self._who}: {self._codec!r} cannot decode the message before it: {error}; "
            "just that one is lost"
        ) from error

    def _pay(self) -> None:
        """Ring the writer's bell if it is owed; struck off only once it rang."""
        ring, bell = self._ring, self._writer_bell
        if ring is not None and bell is not None and ring.owed:
            bell.ring()
            self._rung += 1
            ring.owed = False

    def acquire_read(self, timeout: float | None = None) -> ReadLease:
        """Read the next message in place: ``async with queue.acquire_read() as lease: ...``.

        Entering waits for a message. ``lease.buffers`` are its frames, in shared memory
        and read-only; ``lease.load()`` decodes them without a copy. Both are valid inside
        the block only. Left normally, the message is consumed; left by an exception or a
        cancel, it is still the next. One lease at a time; other dequeues wait.

        Args:
            timeout: seconds to wait for a message, None for ever, 0 tries once.

        Raises:
            BufferError: views of the buffers are alive when the block is left; the message
                is still the next.
            Evicted: the writer went on meanwhile; what was read may be torn.
            TimeoutError, QueueShutDown, WriterDied, Gap, AdmissionRefused, SegmentError: as
            `dequeue`.
        """

        async def borrow() -> tuple[int, Window]:
            return await self._wait(self._try_lease, timeout, hold=True)

        return ReadLease(borrow, self._decode_borrowed, self._consume, self._waiter.leave)

    def _decode_borrowed(self, frames: Sequence[Buffer]) -> Any:
        try:
            return self._decode_object(frames)
        except DecodeError:
            # Bytes that were overwritten meanwhile fail to decode too, and that is no fault
            # of the message.
            if self._ring is not None and not self._closed:
                self._ring.check()
            raise

    def _try_lease(self) -> tuple[int, Window] | None:
        found = self._try_borrow()
        return None if found is None else (found[0], Window(self._segments[0], found[1]))

    def _consume(self) -> None:
        if self._ring is not None and not self._closed:
            self._ring.release()
            self._pay()

    # -- saying what is going on, leaving -----------------------------------------------------

    def _late(self, waited: float, over: bool) -> None:
        if over:
            what = "a message" if self._ready else self._missing()
            raise TimeoutError(f"{self._who} waited {waited:.3g} s for {what}")
        if self._ring is not None:
            self._ring.repeat()

    def stats(self) -> ReaderStats:
        """Give this end's counts."""
        if self._ring is None:
            return ReaderStats(self._rank, 0, 0, 0, WaitStats(0, 0, 0, 0))
        return ReaderStats(
            self._rank, self._ring.number, self._ring.position, self._rung, self._wait_stats()
        )

    def _leave(self) -> None:
        self._pay()
        self._client.close(goodbye=True)
