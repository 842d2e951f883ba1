"""One record: how the frames of a message lie in the ring (drawn in layout.py).

Filling happens above ``written``, where no reader looks yet; locating happens below
it, but may meet bytes that are being overwritten when the reader was evicted. So
``locate`` believes nothing: it returns None for what cannot be a record, and the
ring then finds out why.
"""

from __future__ import annotations

from collections.abc import Sequence
from mmap import mmap

from aioshm.shm.layout import HEADER, LENGTH

Buffer = bytes | bytearray | memoryview
"""A frame: bytes-like, contiguous, and its ``len()`` is its number of bytes."""


def fill(
    raw: mmap, at: int, position: int, size: int, kind: int, number: int, frames: Sequence[Buffer]
) -> None:
    """Write a record of ``size`` bytes at offset ``at`` of the segment."""
    head = frames[0]
    length = len(head)
    start = at + HEADER.size
    HEADER.pack_into(raw, at, position, size >> 6, len(frames) << 4 | kind, number, length)
    if len(frames) == 1:
        raw[start : start + length] = head
        return
    table, start = start, start + LENGTH.size * (len(frames) - 1)
    stop = start + length
    raw[start:stop] = head
    for frame in frames[1:]:
        length = len(frame)
        LENGTH.pack_into(raw, table, length)
        table += LENGTH.size
        start = stop + 63 & -64  # the record is aligned, so this aligns within it
        stop = start + length
        raw[start:stop] = frame


def locate(raw: mmap, at: int, size: int, count: int, length: int) -> list[slice] | None:
    """Find the frames of the record at offset ``at``; None if they do not just fill it.

    Args:
        raw: the mapping.
        at: where the record starts, a multiple of 64.
        size: bytes of the whole record, checked by the caller against the ring.
        count: frames, as the header says.
        length: bytes of the first frame, as the header says.
    """
    table = at + HEADER.size
    start = table + LENGTH.size * (count - 1)
    end = at + size
    if not 1 <= count <= size // LENGTH.size or start + length > end:
        return None
    stop = start + length
    frames = [slice(start, stop)]
    for line in range(table, table + LENGTH.size * (count - 1), LENGTH.size):
        start = stop + 63 & -64
        stop = start + LENGTH.unpack_from(raw, line)[0]
        if stop > end:
            return None
        frames.append(slice(start, stop))
    return frames if stop + 63 & -64 == end else None
