"""The byte map of the two segments and of a record: every offset, here and nowhere else.

::

    data segment: the writer's, read-only for readers
    0        128       256       384       512       640                 D              D + capacity
    ├────────┼─────────┼─────────┼─────────┼─────────┼───────────────────┼──────────────┤
    │ magic  │ written │ claim   │ wake_at │ closed  │ evicted, one byte │ records      │
    │ version│         │         │         │         │ a slot            │              │
    └────────┴─────────┴─────────┴─────────┴─────────┴───────────────────┴──────────────┘
    control segment: the readers'
    0        128                  C         C + 128   C + 256
    ├────────┼────────────────────┼─────────┼─────────┼──── …
    │ magic  │ parked, one byte   │ read[0] │ read[1] │ one line a slot
    │ version│ a slot             │         │         │
    └────────┴────────────────────┴─────────┴─────────┴──── …

A line is 128 bytes, two cache lines, because adjacent-line prefetch pulls them in
pairs. Words are native unsigned 64-bit; all cursors are *positions*: bytes since
the queue began, never taken modulo anything, so a place in the ring is
``position % capacity`` and no two laps look alike.

A record: 64-byte aligned, contiguous, never across the wrap (a padding record is)::

    0          8        12             16       24         32          32 + 8 (n - 1)   at 64
    ├──────────┼────────┼──────────────┼────────┼──────────┼───────────┼──────────── … ┼────────
    │ position │ blocks │ frames, kind │ number │ length 0 │ lengths … │ frame 0       │ frame 1
    └──────────┴────────┴──────────────┴────────┴──────────┴───────────┴──────────── … ┴────────

Each chunk of the ring is in one of four states. vLLM keeps one written flag per
chunk and one read flag per chunk and reader; here both are positions, so that one
store publishes a message to any number of readers and no flag can be stale::

    flags   the chunk is                              in positions
    0???    unwritten: garbage, or being filled       written <= position
    1000    written, read by nobody                   position < written, read[r] <= position
    1???    written, read by some                     … position < read[r] for some
    1111    written, read by all: free again          … position < read[r] for all
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

VERSION = 1
MAGIC = int.from_bytes(b"aioshm\0\1", "little")

LINE = 128
ALIGN = 64
PAGE = 4096

# Indices of 64-bit words, in both segments.
MAGIC_WORD = 0
VERSION_WORD = 1

# Indices of 64-bit words, in the data segment.
WRITTEN = 1 * LINE // 8
CLAIM = 2 * LINE // 8
WAKE_AT = 3 * LINE // 8
CLOSED = 4 * LINE // 8

_FLAGS_IN_DATA = 5 * LINE
_FLAGS_IN_CONTROL = 1 * LINE

HEADER = struct.Struct("=QIIQQ")
"""position, size in blocks of 64 bytes, frames << 4 | kind, number, length of frame 0."""
HEADER_BYTES = HEADER.size
LENGTH = struct.Struct("=Q")

PADDING = 1
OBJECT = 2
RAW = 3
OVERFLOW = 4

ONE_FRAME = 1 << 4 | OBJECT
"""What the header says of an object of one frame."""

MARKER = struct.Struct("=QQ")
"""What stands in the ring for a message that does not fit it: sequence among such, bytes."""

KINDS = (OBJECT, RAW)
"""The kinds of records that are messages themselves, with any frames."""

SMALLEST_FRAME = 4096
"""Bytes of the smallest frame that a slot reckons with, for its frame table."""


def is_written(position: int, written: int) -> bool:
    """Tell whether the chunk at this position is published (the first flag of the four)."""
    return position < written


def is_read(position: int, read: int) -> bool:
    """Tell whether a reader at cursor ``read`` is done with the chunk (one of the last three)."""
    return position < read


def aligned(nbytes: int, to: int = ALIGN) -> int:
    """Round up to a multiple of ``to``, a power of two."""
    return (nbytes + to - 1) & -to


def record_size(lengths: list[int]) -> int:
    """Bytes that a record with frames of these lengths takes in the ring."""
    size = HEADER.size + LENGTH.size * (len(lengths) - 1) + lengths[0]
    for length in lengths[1:]:
        size = (size + 63 & -64) + length
    return size + 63 & -64


@dataclass(frozen=True)
class Layout:
    """The sizes of one queue's segments.

    Args:
        payload: bytes of all frames of the largest message.
        slot: bytes of the largest record, a multiple of 64.
        chunks: slots the ring is made of, at least two.
        slots: admissions that can be alive at once, a multiple of 8.
    """

    payload: int
    slot: int
    chunks: int
    slots: int

    @classmethod
    def for_queue(cls, max_chunk_bytes: int, max_chunks: int, slots: int) -> Layout:
        """Size a ring for payloads of ``max_chunk_bytes``.

        A slot is the payload, the header, and for each frame the payload could be
        made of a line of the frame table and the worst alignment. With two slots at
        least no record exceeds half of the ring; with less, an empty ring can refuse
        a legal record for ever, because the padding at the wrap takes its room.
        """
        frames = max_chunk_bytes // SMALLEST_FRAME + 1
        slot = aligned(HEADER.size + max_chunk_bytes + frames * (LENGTH.size + ALIGN - 1))
        return cls(max_chunk_bytes, slot, max(2, max_chunks), aligned(slots, 8))

    @property
    def capacity(self) -> int:
        """Bytes of the ring."""
        return self.slot * self.chunks

    def fits(self, lengths: list[int]) -> bool:
        """Tell whether a message with frames of these lengths can go through the ring."""
        return sum(lengths) <= self.payload and record_size(lengths) <= self.slot

    @property
    def records(self) -> int:
        """Offset of the ring in the data segment."""
        return aligned(_FLAGS_IN_DATA + self.slots, PAGE)

    @property
    def data_bytes(self) -> int:
        """Bytes of the data segment."""
        return aligned(self.records + self.capacity, PAGE)

    @property
    def control_bytes(self) -> int:
        """Bytes of the control segment."""
        return aligned(self._cursors + LINE * self.slots, PAGE)

    @property
    def evicted(self) -> slice:
        """The bytes of the evicted flags, in the data segment."""
        return slice(_FLAGS_IN_DATA, _FLAGS_IN_DATA + self.slots)

    @property
    def parked(self) -> slice:
        """The bytes of the parked flags, in the control segment."""
        return slice(_FLAGS_IN_CONTROL, _FLAGS_IN_CONTROL + self.slots)

    def read(self, slot: int) -> int:
        """Index of the word in the control segment that holds a slot's cursor."""
        return (self._cursors + LINE * slot) // 8

    @property
    def _cursors(self) -> int:
        return aligned(_FLAGS_IN_CONTROL + self.slots, LINE)
