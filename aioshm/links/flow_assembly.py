"""Pieces to messages: a message's frames, put together as its pieces come in order.

The first bytes of a message are a table of its frames: how many, and how long each is.
What comes in is kept as it came until a frame is whole and is then joined, which costs
one copy and never touches memory before there are bytes for it. As out of the ring, the
first frame is ``bytes`` and the others are ``bytearray``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aioshm.codec import Buffer
from aioshm.links.flow_wire import PIECE, Breach

_COUNT = struct.Struct("!I")
_LENGTH_BYTES = 8


def pack_table(lengths: Sequence[int]) -> bytes:
    """Build the table that a message begins with."""
    return _COUNT.pack(len(lengths)) + struct.pack(f"!{len(lengths)}Q", *lengths)


def whole(chunk: memoryview) -> list[Buffer] | None:
    """Take a message of one piece apart; None if it is none, and `Assembly` says why."""
    if len(chunk) < _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(chunk)
    at = _COUNT.size + count * _LENGTH_BYTES
    if not count or at > len(chunk):
        return None
    frames: list[Buffer] = []
    for length in struct.unpack_from(f"!{count}Q", chunk, _COUNT.size):
        frames.append((bytearray if frames else bytes)(chunk[at : at + length]))
        at += length
    return frames if at == len(chunk) else None


class Assembly:
    """One message as it arrives.

    Args:
        pieces: how many there will be.
        piece: bytes of each but the last; None is PIECE.
    """

    def __init__(self, pieces: int, piece: int | None = None) -> None:
        self.pieces, self._piece = pieces, piece or PIECE
        self._table = bytearray()
        self._lengths: list[int] | None = None
        self._frames: list[Buffer] = []
        self._parts: list[memoryview] = []
        self._missing = 0

    def feed(self, chunk: memoryview) -> Breach | None:
        """Take the bytes of the next piece; the memory behind the view is kept."""
        if self._lengths is None:
            used = self._feed_table(chunk)
            if isinstance(used, Breach):
                return used
            chunk = chunk[used:]
            if self._lengths is None:
                return None
        while len(chunk):
            if len(self._frames) == len(self._lengths):
                return Breach(f"{len(chunk)} bytes more than the message's table says")
            part = chunk[: self._missing]
            chunk = chunk[len(part) :]
            self._parts.append(part)
            self._missing -= len(part)
            self._finish_frames()
        return None

    def frames(self) -> list[Buffer] | None:
        """The frames, once all are there."""
        whole = self._lengths is not None and len(self._frames) == len(self._lengths)
        return self._frames if whole else None

    def _feed_table(self, chunk: memoryview) -> int | Breach:
        """Take what belongs to the table; returns how much that was."""
        before = len(self._table)
        self._table += chunk[: max(0, _COUNT.size - before)]
        if len(self._table) < _COUNT.size:
            return len(self._table) - before
        (count,) = _COUNT.unpack_from(self._table)
        size = _COUNT.size + count * _LENGTH_BYTES
        if not count or size > self.pieces * self._piece:
            return Breach(f"a message of {count} frames in {self.pieces} pieces")
        used = len(self._table) - before
        self._table += chunk[used : used + size - len(self._table)]
        if len(self._table) == size:
            lengths = list(struct.unpack_from(f"!{count}Q", self._table, _COUNT.size))
            total = size + sum(lengths)
            if -(-total // self._piece) != self.pieces:
                return Breach(f"a message of {total} bytes in {self.pieces} pieces")
            self._lengths, self._missing = lengths, lengths[0]
            self._finish_frames()
        return len(self._table) - before

    def _finish_frames(self) -> None:
        """Join the frames that are whole by now; those of no bytes are at once."""
        assert self._lengths is not None
        while not self._missing and len(self._frames) < len(self._lengths):
            join = bytearray().join if self._frames else b"".join
            self._frames.append(join(self._parts))
            self._parts = []
            if len(self._frames) < len(self._lengths):
                self._missing = self._lengths[len(self._frames)]
