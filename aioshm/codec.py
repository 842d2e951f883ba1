"""Objects to buffers and back: pickle protocol 5 with large buffers out of band.

A numpy array's bytes need not go through the pickle stream: pickle hands them out as
buffers (PEP 574), which are copied once, straight into the record, 64-byte aligned, and
once out of it. But each such frame costs some microseconds of its own (a table line, a
slice, a bytearray), so that small ones are cheaper in the stream.

CPU time of one numpy array from encode through the Python ring to decode, out of band
against in band, medians of 21 alternating rounds: 2 KiB 1.36, 8 KiB 1.21, 64 KiB 1.10,
128 KiB 0.95, 192 KiB 0.08 (from there on every copy of the stream is a fresh mapping).
The threshold lies lower than where the two meet, because `acquire_read` gives what is
out of band without any copy, and what is in band not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pickle import PickleBuffer, dumps, loads
from typing import Any, Protocol

Buffer = bytes | bytearray | memoryview
"""A frame: bytes-like, contiguous, and its ``len()`` is its number of bytes."""

_OUT_OF_BAND = 8192


class Codec(Protocol):
    """What a queue needs to turn objects into buffers and back.

    The writer's codec travels in the handle, pickled, so that both ends use the same.
    """

    def encode(self, obj: Any) -> Sequence[Buffer]:
        """Give the frames of one object, at least one; they may be views of its memory."""

    def decode(self, frames: Sequence[Buffer]) -> Any:
        """Build the object from frames that belong to the caller.

        Under `acquire_read` they are views of shared memory instead.
        """


class _OutOfBand:
    """The large buffers of one message, taken as pickle comes across them.

    Attributes:
        busy: a message is being pickled with it.
        views: the buffers.
        take: what pickle calls with each buffer.
    """

    __slots__ = ("busy", "take", "views")

    def __init__(self) -> None:
        self.busy = False
        self.views: list[memoryview] = []
        self.take = self._take

    def _take(self, buffer: PickleBuffer) -> bool:
        view = buffer.raw()
        if len(view) < _OUT_OF_BAND:
            return True  # pickle's word for "leave it in the stream"
        self.views.append(view)
        return False


# One for all: to make one takes a fifth of what it takes to pickle a small message. The
# interpreter changes threads at no point between a look at `busy` and the store to it;
# and an object whose pickling pickles another meanwhile finds it busy too.
_shared = _OutOfBand()


class PickleCodec:
    """Pickle protocol 5; buffers of 8 KiB and more travel beside the stream.

    Unpickling runs code that the peer chose: whoever holds a queue's handle is trusted.
    """

    def encode(self, obj: Any) -> Sequence[Buffer]:
        """Pickle an object; the first frame is the stream, the others its large buffers."""
        others = _shared
        if others.busy:
            others = _OutOfBand()
        others.busy = True
        try:
            head = dumps(obj, 5, buffer_callback=others.take)
            return [head, *others.views] if others.views else [head]
        finally:
            # In this order: a new list may start the collector, and a finalizer may encode.
            if others.views:
                others.views = []
            others.busy = False

    def decode(self, frames: Sequence[Buffer]) -> Any:
        """Unpickle an object; its large buffers are the frames themselves, not copies."""
        try:
            [head] = frames
        except ValueError:
            pass
        else:
            return loads(head)
        return loads(frames[0], buffers=frames[1:])

    def __repr__(self) -> str:
        return "PickleCodec()"
