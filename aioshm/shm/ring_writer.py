"""The writing side of the ring; ring.py has the theory and the five tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from aioshm.errors import MessageTooLarge, SegmentError
from aioshm.shm.layout import (
    CLAIM,
    CLOSED,
    HEADER,
    HEADER_BYTES,
    MARKER,
    OBJECT,
    ONE_FRAME,
    OVERFLOW,
    PADDING,
    RAW,
    WAKE_AT,
    WRITTEN,
    Layout,
    is_read,
    record_size,
)
from aioshm.shm.ordering import (
    fence,
    load,
    load_flags,
    store,
    store_release,
)
from aioshm.shm.record import Buffer, fill
from aioshm.shm.segment import Segment

# How far ahead of a full ring a parked writer may ask to be woken, in records.
_WAKE_RECORDS = 64


class RingWriter:
    """The writing side, over the two segments of a queue.

    Args:
        data: the writer's segment, mapped for writing.
        control: the readers' segment.
        layout: the sizes of both.
        start: the first position, a multiple of 64.
    """

    def __init__(self, data: Segment, control: Segment, layout: Layout, start: int = 0) -> None:
        self._raw = data.raw
        self._words = data.words
        self._evicted = data.flags(layout.evicted)
        self._cursors = control.words
        self._parked = control.flags(layout.parked)
        self._nobody = bytes(layout.slots)
        self._layout = layout
        self._payload, self._slot = layout.payload, layout.slot
        self._capacity, self._records = layout.capacity, layout.records
        self._live: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._limit = start
        self._wanted = (start, 0)
        self._claimed = (0, 0)
        self.position = start
        self.number = 0
        self.owed: list[int] = []
        store(self._words, WRITTEN, start)
        store(self._words, CLAIM, start)

    # -- writing ---------------------------------------------------------------

    def try_write(self, frames: Sequence[Buffer]) -> bool:
        """Write one message if there is room, and note who is to be woken in `owed`.

        Raises:
            MessageTooLarge: no ring of this size could take it.
            SegmentError: a reader's cursor is not where it can be.
        """
        head = frames[0]
        length = len(head)
        position = self.position
        offset = position % self._capacity
        size = (length + 95) & -64
        if (
            len(frames) == 1
            and length <= self._payload
            and position + size <= self._limit
            and offset + size <= self._capacity
        ):
            # The common case in one piece: no call but those that touch shared words.
            raw, at = self._raw, self._records + offset
            HEADER.pack_into(raw, at, position, size >> 6, ONE_FRAME, self.number, length)
            at += HEADER_BYTES
            raw[at : at + length] = head
            self._publish(position + size)
            return True
        return self._try_write_any(frames)

    def _try_write_any(self, frames: Sequence[Buffer]) -> bool:
        lengths = [len(frame) for frame in frames]
        size = record_size(lengths)
        if sum(lengths) > self._payload or size > self._slot:
            self._refuse(sum(lengths), size)
        room = self._find_room(size)
        if room is None:
            return False
        position, at = room
        fill(self._raw, at, position, size, OBJECT, self.number, frames)
        self._publish(position + size)
        return True

    def claim(self, nbytes: int) -> slice | None:
        """Find room for one frame of up to ``nbytes``; returns where to put it, or None.

        The bytes stay unpublished until `commit`; any other write instead forgets them.
        """
        size = record_size([nbytes])
        if nbytes > self._payload:
            self._refuse(nbytes, size)
        room = self._find_room(size)
        if room is None:
            return None
        self._claimed = room
        start = room[1] + HEADER.size
        return slice(start, start + nbytes)

    def commit(self, nbytes: int) -> None:
        """Publish the first ``nbytes`` of what `claim` gave."""
        position, at = self._claimed
        size = record_size([nbytes])
        HEADER.pack_into(self._raw, at, position, size >> 6, 1 << 4 | RAW, self.number, nbytes)
        self._publish(position + size)

    def has_room_for_marker(self) -> bool:
        """Tell whether `write_marker` can be called now."""
        return self._find_room(record_size([MARKER.size])) is not None

    def write_marker(self, sequence: int, nbytes: int) -> None:
        """Write what stands for a message whose body comes another way.

        There must be room: a marker is all or nothing with its body, so the caller looked.
        """
        size = record_size([MARKER.size])
        room = self._find_room(size)
        assert room is not None
        position, at = room
        frames = [MARKER.pack(sequence, nbytes)]
        fill(self._raw, at, position, size, OVERFLOW, self.number, frames)
        self._publish(position + size)

    def _find_room(self, size: int) -> tuple[int, int] | None:
        """Find room for a record, with a padding record if the wrap is in the way.

        Returns:
            The record's position and its offset in the segment; None if the ring is full.
        """
        offset = self.position % self._capacity
        at = self._records + offset
        left = self._capacity - offset
        padding = left if size > left else 0
        end = self.position + padding + size
        if end > self._limit and not self._look_for_room(end, size):
            return None
        if not padding:
            return self.position, at
        HEADER.pack_into(self._raw, at, self.position, padding >> 6, 1 << 4 | PADDING, 0, 0)
        return self.position + padding, self._records

    def _publish(self, end: int) -> None:
        # Our own position first: an interrupt after it leaves a whole record that the
        # next write publishes too; the other way round would overwrite a published one.
        self.position = end
        self.number += 1
        store_release(self._words, WRITTEN, end)  # PUBLISH
        fence()  # PARK-READER
        if load_flags(self._parked) != self._nobody:  # PARK-READER
            self._note_parked()

    def _note_parked(self) -> None:
        for slot, flag in enumerate(load_flags(self._parked)):
            if flag:
                if slot in self._live:
                    self.owed.append(slot)
                # Cleared before the bell rings: the other way round would wipe out
                # the flag of a reader that woke, found nothing and parked again.
                store(self._parked, slot, 0)

    # -- room and waiting for it ------------------------------------------------

    def _look_for_room(self, end: int, size: int) -> bool:
        self._wanted = end, size
        limit = min(self.cursors().values(), default=self.position) + self._capacity
        if limit > self._limit:
            store(self._words, CLAIM, limit)  # EVICT
            # No room is taken but behind this fence. So it also acquires the cursors: the
            # readers' last touch of what is to be overwritten comes before (FREE).
            fence()  # EVICT, FREE
            self._limit = limit
        return end <= limit

    def cursors(self) -> dict[int, int]:
        """Look at all live readers: slot to cursor.

        Raises:
            SegmentError: a cursor went backwards or beyond what is written.
        """
        for slot, before in self._live.items():
            read = load(self._cursors, self._layout.read(slot))  # FREE
            if not before <= read <= self.position:
                raise SegmentError(
                    f"the cursor of {self._names[slot]} is {read} where {before} to "
                    f"{self.position} is possible: its process, or another reader's, scribbled "
                    "over the control segment; evict it"
                )
            self._live[slot] = read
        return dict(self._live)

    def holding_back(self) -> dict[int, int]:
        """Look at the live readers that leave no room for the message last tried.

        Returns:
            Slot to cursor.
        """
        needed = self._wanted[0] - self._capacity
        return {slot: read for slot, read in self.cursors().items() if read < needed}

    def arm(self) -> bool:
        """Ask for a bell when there is room for the message last tried; look again.

        Far enough for that message, else a quarter of the ring, but never further than
        64 such messages. Too low, and writer and reader go in step, a bell a message; a
        full quarter always, and a reader that answers each message before it takes the
        next leaves the writer to its timer.

        Returns:
            True if there is room already: do not wait. `disarm` in either case.
        """
        end, size = self._wanted
        base = self.position - self._capacity
        quarter = base + self._capacity // 4
        wake_at = max(end - self._capacity, min(quarter, base + _WAKE_RECORDS * size))
        store(self._words, WAKE_AT, wake_at)  # PARK-WRITER
        fence()  # PARK-WRITER
        return self._look_for_room(end, size)  # PARK-WRITER

    def disarm(self) -> None:
        """Ask for no bell any more; only the writer ever clears the word."""
        store(self._words, WAKE_AT, 0)

    def overdue(self) -> bool:
        """Tell whether every reader passed the armed position, so that a bell is due."""
        wake_at = load(self._words, WAKE_AT)
        return bool(wake_at) and all(read >= wake_at for read in self.cursors().values())

    # -- readers come and go ------------------------------------------------------

    def admit(self, slot: int, who: str = "") -> int:
        """Count a fresh slot among the readers; returns the position it starts at.

        Args:
            slot: the slot.
            who: whom errors speak of.
        """
        self._names[slot] = who or f"slot {slot}"
        store(self._evicted, slot, 0)
        store(self._parked, slot, 0)
        store_release(self._cursors, self._layout.read(slot), self.position)
        self._live[slot] = self.position
        return self.position

    def forget(self, slot: int) -> None:
        """Wait no longer for a reader that is gone."""
        self._live.pop(slot, None)
        store(self._parked, slot, 0)

    def evict(self, slot: int) -> None:
        """Go on without a reader that may still be there, and wake it to hear so."""
        self._live.pop(slot, None)
        store(self._evicted, slot, 1)  # EVICT, PARK-READER
        fence()  # EVICT, PARK-READER
        if load(self._parked, slot):  # PARK-READER
            self.owed.append(slot)
            store(self._parked, slot, 0)

    def close(self) -> None:
        """Say that nothing more will be written, and note all who wait for it."""
        # Relaxed: the fence behind the last store of written releases that one to whoever
        # acquires this one.
        store(self._words, CLOSED, 1)  # PARK-READER
        fence()  # PARK-READER
        self._note_parked()

    def is_read(self, position: int) -> bool:
        """Tell whether every live reader is done with the chunk at this position."""
        return all(is_read(position, read) for read in self.cursors().values())

    def _refuse(self, total: int, size: int) -> NoReturn:
        if total > self._payload:
            raise MessageTooLarge(
                f"the message has {total} bytes where max_chunk_bytes is {self._payload}; "
                "give MessageQueue.create a larger max_chunk_bytes",
                size=total,
                limit=self._payload,
            )
        raise MessageTooLarge(
            f"the message's frames take {size} bytes with their table and alignment where a "
            f"slot has {self._slot}; give MessageQueue.create a larger max_chunk_bytes",
            size=size,
            limit=self._slot,
        )
