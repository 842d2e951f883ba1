"""The reading side of the ring; ring.py has the theory and the five tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from aioshm.errors import Evicted, SegmentError
from aioshm.shm.layout import (
    CLAIM,
    CLOSED,
    HEADER,
    HEADER_BYTES,
    KINDS,
    MARKER,
    OBJECT,
    ONE_FRAME,
    OVERFLOW,
    PADDING,
    WAKE_AT,
    WRITTEN,
    Layout,
    is_written,
)
from aioshm.shm.ordering import fence, fence_loads, load, load_acquire, store, store_release
from aioshm.shm.record import Buffer, locate
from aioshm.shm.segment import Segment

Record = tuple[int, Sequence[Buffer]]
"""The kind of a message (OBJECT, RAW, OVERFLOW) and its frames, in memory of their own."""


class RingReader:
    """The reading side of one slot, over the two segments of a queue.

    Args:
        data: the writer's segment, mapped read-only.
        control: the readers' segment, mapped for writing.
        layout: the sizes of both.
        slot: the slot this reader was admitted to.
        position: where it starts, as the writer said when it admitted it.
        who: whom errors speak of.
    """

    def __init__(
        self,
        data: Segment,
        control: Segment,
        layout: Layout,
        slot: int,
        position: int,
        who: str = "this reader",
    ) -> None:
        self._raw = data.raw
        self._words = data.words
        self._evicted = data.flags(layout.evicted)
        self._cursors = control.words
        self._read = layout.read(slot)
        self._parked = control.flags(layout.parked)
        self._capacity, self._records = layout.capacity, layout.records
        self._slot, self._who = slot, who
        self._written = self._told = position
        self._borrowed = 0
        self._number = 0
        self.position = position
        self.number = 0
        self.owed = False

    # -- reading -------------------------------------------------------------------

    def try_read(self) -> Record | None:
        """Copy the next message out and free its place; None if there is none.

        A marker (OVERFLOW) is copied out but stays, until `release` frees its place.

        Raises:
            Evicted: the writer went on without this reader; the copy is thrown away.
            SegmentError: there is no record where one was published.
        """
        position = self.position
        if position == self._written and not self._look_for_written():
            return None
        raw = self._raw
        offset = position % self._capacity
        at = self._records + offset
        there, blocks, meta, number, length = HEADER.unpack_from(raw, at)
        end = position + (blocks << 6)
        if (
            meta == ONE_FRAME
            and there == position < end <= self._written
            and (length + 95) & -64 == end - position <= self._capacity - offset
        ):
            at += HEADER_BYTES
            kind = OBJECT
            frames: list[Buffer] = [raw[at : at + length]]
        else:
            kind, where, end = self._locate(position)
            first, *others = where
            frames = [raw[first]]
            frames += [bytearray(memoryview(raw)[other]) for other in others]
            number = self._number
            if kind == OVERFLOW:
                self._borrowed = end
                self.check()
                return kind, frames
        self._free(end)
        self.number = number + 1
        return kind, frames

    def borrow(self) -> tuple[int, list[slice]] | None:
        """Find the next message's frames and leave them where they are; None if there is none.

        The bytes stand until `release`, which tells whether they stood that long.
        """
        if self.position == self._written and not self._look_for_written():
            return None
        kind, where, self._borrowed = self._locate(self.position)
        return kind, where

    def release(self) -> None:
        """Free the place of the message that `borrow` found.

        Raises:
            Evicted: the writer went on meanwhile; what was read from it may be torn.
        """
        self._free(self._borrowed)
        self.number = self._number + 1

    def check(self) -> None:
        """Make sure that what was found at our position has stood until now.

        Raises:
            Evicted: the writer went on meanwhile; what was read from it may be torn.
        """
        fence_loads()  # EVICT
        if (
            load(self._evicted, self._slot)  # EVICT
            or load(self._words, CLAIM) > self.position + self._capacity  # EVICT
        ):
            self._lost()

    def _free(self, end: int) -> None:
        before = self.position
        fence_loads()  # EVICT
        if (
            load(self._evicted, self._slot)  # EVICT
            or load(self._words, CLAIM) > before + self._capacity  # EVICT
        ):
            self._lost()
        self.position = end
        # The copy above is the last touch of the record. Not before the look at claim:
        # from here on the writer may move it over this very record, and rightly.
        store_release(self._cursors, self._read, end)  # FREE, PARK-WRITER
        fence()  # PARK-WRITER
        if self._told < load(self._words, WAKE_AT) <= end:  # PARK-WRITER
            # Only the store that crosses it rings; any later one would ring again.
            self.owed = True
        # Last, so that after an interrupt above the next store still crosses.
        self._told = end

    def _look_for_written(self) -> bool:
        if load(self._evicted, self._slot):
            self._lost()
        written = load_acquire(self._words, WRITTEN)  # PUBLISH
        if not self.position <= written <= self.position + self._capacity:
            self._no_record(f"written is {written}")
        self._written = written
        return is_written(self.position, written)

    def _locate(self, position: int) -> tuple[int, list[slice], int]:
        """Find the frames of the next record, past a padding record; and where it ends."""
        while True:
            offset = position % self._capacity
            at = self._records + offset
            there, blocks, meta, self._number, length = HEADER.unpack_from(self._raw, at)
            size = blocks << 6
            end = position + size
            kind, where = meta & 15, None
            if there == position < end <= self._written and size <= self._capacity - offset:
                if (meta, length) == (1 << 4 | PADDING, 0) and end < self._written:
                    position = end
                    continue
                marker = kind == OVERFLOW and (meta >> 4, length) == (1, MARKER.size)
                if marker or kind in KINDS:
                    where = locate(self._raw, at, size, meta >> 4, length)
            if where is None:
                self._no_record(
                    f"the header says position {there}, {size} bytes, "
                    f"{meta >> 4} frames, kind {kind}"
                )
            return kind, where, end

    def _lost(self) -> NoReturn:
        """Say why the bytes at `position` are no longer ours."""
        # EVICT: a claim that moved over an evicted reader's place was seen before the
        # eviction that let it: without the fence the reason given could be the wrong one.
        fence_loads()
        if load(self._evicted, self._slot):
            raise Evicted(
                f"{self._who} was evicted: the writer went on without it from position "
                f"{self.position} on; join again to get the next messages"
            )
        raise SegmentError(
            f"{self._who}: the writer wrote over position {self.position} before it was read; "
            "some process of this queue scribbled over the control segment; end that process, and "
            "join again to get the next messages"
        )

    def _no_record(self, found: str) -> NoReturn:
        # EVICT: what was just read may have been overwritten; only then is it no error
        # of the segment.
        self.check()
        raise SegmentError(
            f"{self._who}: no record at position {self.position}: {found}; the memory is not what "
            "the writer wrote; make a new queue"
        )

    # -- waiting --------------------------------------------------------------------

    def arm(self) -> bool:
        """Ask for a bell at the next message, close or eviction; look again.

        Returns:
            True if there is something to see already: do not wait. `disarm` in either case.
        """
        store(self._parked, self._slot, 1)  # PARK-READER
        fence()  # PARK-READER
        return (
            # Relaxed: nothing is read on its strength, the attempt that follows acquires.
            is_written(self.position, load(self._words, WRITTEN))  # PARK-READER
            or self.is_closed()  # PARK-READER
            or bool(load(self._evicted, self._slot))  # PARK-READER
        )

    def disarm(self) -> None:
        """Ask for no bell any more."""
        store(self._parked, self._slot, 0)

    def overdue(self) -> bool:
        """Tell whether the flag still stands although there is a message: a bell is due."""
        return bool(load(self._parked, self._slot)) and is_written(
            self.position, load(self._words, WRITTEN)
        )

    def repeat(self) -> None:
        """Store the cursor once more; who waits does so now and then.

        Had another process scribbled an older one over it, the writer would wait for this
        reader, and this reader for the writer.
        """
        store_release(self._cursors, self._read, self.position)

    def is_closed(self) -> bool:
        """Tell whether the writer closed; what it wrote before is to be read first."""
        return bool(load_acquire(self._words, CLOSED))
