"""What the writer keeps until every reader has consumed it, and how it is cut to pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aioshm.codec import Buffer
from aioshm.links.flow_assembly import pack_table
from aioshm.links.flow_wire import PIECE, Position


def cut(
    frames: Sequence[Buffer], snapshot: Callable[[Buffer], Any], piece: int | None = None
) -> list[Any]:
    """Cut a message to pieces: its table, then its frames, one after the other.

    Args:
        frames: the message, in the caller's own memory.
        snapshot: copies one piece; nothing of the caller's memory is held afterwards.
        piece: bytes of a piece; None is PIECE.
    """
    size = room = piece or PIECE
    lengths = [len(frame) for frame in frames]
    table = pack_table(lengths)
    if len(table) + sum(lengths) <= size:
        return [snapshot(b"".join((table, *frames)))]
    pieces: list[Any] = []
    parts: list[Buffer] = []
    for frame in (table, *frames):
        with memoryview(frame) as view:
            for start in _cuts(len(view), room, size):
                part = view[start : min(start + room, len(view))]
                room -= len(part)
                # A whole piece of one frame is copied once; the few that lie across frames
                # are copied twice.
                parts.append(part if len(part) == size else bytes(part))
                if not room:
                    pieces.append(_snapshot(parts, snapshot))
                    parts, room = [], size
                part.release()
    if parts:
        pieces.append(_snapshot(parts, snapshot))
    return pieces


def _cuts(nbytes: int, room: int, size: int) -> list[int]:
    """Where the pieces of a frame begin, if the first has only so much room."""
    if not nbytes:
        return []
    return [0, *range(room, nbytes, size)]


def _snapshot(parts: list[Buffer], snapshot: Callable[[Buffer], Any]) -> Any:
    return snapshot(parts[0] if len(parts) == 1 else b"".join(parts))


@dataclass(frozen=True)
class Body:
    """One message in the window.

    Attributes:
        pieces: its pieces, of whatever kind `cut` was told to make; ``len()`` is bytes.
        nbytes: what it counts for in the window.
        start: bytes of all pieces of all messages before it.
    """

    pieces: Sequence[Any]
    nbytes: int
    start: int

    @property
    def end(self) -> int:
        """Bytes of all pieces up to and with this message."""
        # All but the last have as many bytes as the first.
        return self.start + (len(self.pieces) - 1) * len(self.pieces[0]) + len(self.pieces[-1])


class Window:
    """The messages that some reader has not consumed.

    Args:
        max_messages: how many there may be.
        max_bytes: how many bytes they may have.

    Attributes:
        first, next: the sequences it holds, the second one exclusive.
        nbytes: bytes it holds.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages, self.max_bytes = max_messages, max_bytes
        self._bodies: dict[int, Body] = {}
        self._end = 0
        self.first = self.next = 0
        self.nbytes = 0

    def has_room(self, nbytes: int) -> bool:
        """Tell whether a message of that size may be appended now."""
        return len(self._bodies) < self.max_messages and self.nbytes + nbytes <= self.max_bytes

    def append(self, pieces: Sequence[Any], nbytes: int) -> int:
        """Take a message in; returns its sequence."""
        self._bodies[self.next] = body = Body(pieces, nbytes, self._end)
        self._end = body.end
        self.nbytes += nbytes
        self.next += 1
        return self.next - 1

    def retract(self) -> None:
        """Take the last message back; nobody may have seen it."""
        self.next -= 1
        body = self._bodies.pop(self.next)
        self._end = body.start
        self.nbytes -= body.nbytes

    def trim(self, to: int) -> None:
        """Forget all messages below a sequence."""
        while self.first < to:
            self.nbytes -= self._bodies.pop(self.first).nbytes
            self.first += 1

    def body(self, sequence: int) -> Body:
        """A message that is there."""
        return self._bodies[sequence]

    def offset(self, position: Position) -> int | None:
        """Bytes of all pieces before a position; None if there is no such position."""
        sequence, piece = position
        if sequence == self.next and not piece:
            return self._end
        if not self.first <= sequence < self.next:
            return None
        body = self.body(sequence)
        return body.start + piece * len(body.pieces[0]) if piece < len(body.pieces) else None
