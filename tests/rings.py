"""A ring for tests: a writer and its readers over two segments, in one process, without a link.

`PAIRINGS` lists the implementations of the two sides, each with each; the ``ring`` fixture
of a test module is parametrized with it, so that every ring test runs on all of them.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

from aioshm.shm import ring_reader, ring_writer
from aioshm.shm.layout import HEADER, WAKE_AT, WRITTEN, Layout
from aioshm.shm.ring_reader import RingReader
from aioshm.shm.ring_writer import RingWriter
from aioshm.shm.segment import Segment

try:
    from aioshm.shm import _ring
except ImportError:  # as it is installed where there is no compiler
    MODULES: dict[str, tuple[Any, Any]] = {"python": (ring_writer, ring_reader)}
else:
    MODULES = {"python": (ring_writer, ring_reader), "c": (_ring, _ring)}

Pairing = tuple[type[RingWriter], type[RingReader]]
PAIRINGS: dict[str, Pairing] = {
    f"{writer}-{reader}": (MODULES[writer][0].RingWriter, MODULES[reader][1].RingReader)
    for writer in MODULES
    for reader in MODULES
}
"""Writer and reader, by the language of each."""


class Ring:
    """Two segments, a writer, and readers that have them mapped as real readers do.

    Args:
        pairing: the classes of the two sides.
        payload: bytes of the largest message.
        chunks: slots of the ring.
        start: the writer's first position.
    """

    def __init__(
        self,
        pairing: Pairing = PAIRINGS["python-python"],
        *,
        payload: int = 1000,
        chunks: int = 2,
        start: int = 0,
    ) -> None:
        self.writer_class, self.reader_class = pairing
        self.layout = layout = Layout.for_queue(payload, chunks, 8)
        self.capacity = layout.capacity
        self.data = Segment.create("aioshm-test-data", layout.data_bytes, words=layout.records)
        nbytes = layout.control_bytes
        self.control = Segment.create("aioshm-test-control", nbytes, words=nbytes)
        self.seen = Segment.attach(
            os.dup(self.data.fileno()), layout.data_bytes, writable=False, words=layout.records
        )
        self.writer = self.restart(start)

    def restart(self, start: int) -> RingWriter:
        """Begin anew with another writer, without readers, at this position."""
        self.writer = self.writer_class(self.data, self.control, self.layout, start)
        return self.writer

    def join(self, slot: int) -> RingReader:
        """Admit a reader to a slot."""
        position = self.writer.admit(slot)
        reader = self.reader_class(self.seen, self.control, self.layout, slot, position)
        reader.number = self.writer.number
        return reader

    def fill(self, body: bytes = b"") -> int:
        """Write until the ring is full; returns how many messages it took."""
        count = 0
        while self.writer.try_write([body]):
            count += 1
        return count

    # -- what the memory holds ---------------------------------------------------------

    @property
    def written(self) -> int:
        """The shared word `written`."""
        return int(self.data.words[WRITTEN])

    @property
    def wake_at(self) -> int:
        """The shared word `wake_at`, as the signed number that it is."""
        word = int(self.data.words[WAKE_AT])
        return word - 2**64 if word >> 63 and self.writer.position < 2**63 else word

    @property
    def parked(self) -> bytes:
        """The parked flags."""
        return self.control.raw[self.layout.parked]

    def at(self, position: int) -> int:
        """Offset in the data segment of a position of the ring."""
        return self.layout.records + position % self.capacity

    def cursor(self, slot: int) -> int:
        """A reader's cursor in shared memory."""
        return int(self.control.words[self.layout.read(slot)])

    def scribble_cursor(self, slot: int, value: int) -> None:
        """Store a cursor that its reader did not."""
        self.control.words[self.layout.read(slot)] = value

    def header(self, position: int) -> list[int]:
        """The header at a position: position, blocks, meta, number, length of frame 0."""
        return list(HEADER.unpack_from(self.data.raw, self.at(position)))

    def scribble_header(self, position: int, fields: list[int]) -> None:
        """Overwrite the header at a position."""
        HEADER.pack_into(self.data.raw, self.at(position), *fields)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for segment in (self.data, self.control, self.seen):
            segment.close()


def bodies(record: Any) -> list[bytes] | None:
    """Give the frames of what a reader read, as bytes."""
    return None if record is None else [bytes(frame) for frame in record[1]]
