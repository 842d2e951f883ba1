"""The frames of the flow protocol, as bytes: pure, and wary of what comes in.

::

    reader → writer   HELLO     peer, session, connection, consumed, position, pid
                      ACK       consumed, granted position, taken
                      GOODBYE   nothing more
    writer → reader   WELCOME   position
                      STATE     ready, closed; sequence and number, first and next
                      REFUSED   the reason
                      DATA      for each piece: position, pieces of its message, bytes;
                                the pieces themselves are a second frame

Each begins with the magic, the kind and a tag of 16 bytes: an HMAC of the direction, the
peer and the session under the peer's key. So neither end reveals the key, and whoever
took the place of the other end can neither read on from it nor feed it anything.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from typing import NamedTuple

from aioshm.codec import Buffer

PIECE = 1 << 20
"""Bytes of a piece on this machine; only the last of a message may have less."""

REMOTE_PIECE = 1 << 17
"""The same between machines.

A peer is heard again only once a frame has come whole: a link that takes longer for one than
heartbeats are waited for would be given up again and again, for ever.
"""

LARGEST_TO_WRITER = 1 << 16
LARGEST_TO_READER = PIECE + (1 << 16)
MOST_PIECES = 1024
"""Pieces (of small messages) that may share one frame."""

START = (1 << 64) - 1
"""Consumed, in the HELLO of a reader that does not know where it begins."""

_MAGIC = b"aiow\3"
_HEAD = struct.Struct("!5sc16s")
_HELLO = struct.Struct("!5QII")
_ACK = struct.Struct("!2QIQ")
_WELCOME = struct.Struct("!QI")
_STATE = struct.Struct("!??4Q")
_PIECE = struct.Struct("!QIII")

_HELLO_KIND, _ACK_KIND, _GOODBYE_KIND = b"H", b"A", b"G"
_WELCOME_KIND, _STATE_KIND, _REFUSED_KIND, _DATA_KIND = b"W", b"S", b"X", b"D"

Position = tuple[int, int]
"""Sequence of a message, and which of its pieces; both count from 0."""


class Breach(NamedTuple):
    """What a peer sent against the protocol."""

    reason: str


class Hello(NamedTuple):
    """A reader on a new connection."""

    tag: bytes
    peer: int
    session: int
    connection: int
    consumed: int
    position: Position
    pid: int = 0


class Ack(NamedTuple):
    """What a reader has consumed, and how far it may be sent to (and the credit beyond).

    Attributes:
        taken: grows whenever the program took something, of a message that is not consumed
            as a whole too.
    """

    tag: bytes
    consumed: int
    position: Position
    taken: int = 0


class Goodbye(NamedTuple):
    """A reader that leaves."""

    tag: bytes


class Welcome(NamedTuple):
    """Where the writer goes on, after a HELLO."""

    tag: bytes
    position: Position


class State(NamedTuple):
    """How the queue is, where no other link tells.

    Attributes:
        ready: all readers have joined.
        closed: nothing more will be written.
        first, first_number: the first message for this reader, for the flow and the program.
        next, number: the same of the next message, which never comes if the queue is closed.
    """

    tag: bytes
    ready: bool
    closed: bool
    first: int
    first_number: int
    next: int
    number: int


class Refused(NamedTuple):
    """Why the writer does not go on."""

    tag: bytes
    reason: str


class Piece(NamedTuple):
    """One line of the table of a DATA frame."""

    position: Position
    pieces: int
    nbytes: int


class Data(NamedTuple):
    """Pieces, and their bytes one after the other."""

    tag: bytes
    pieces: list[Piece]
    payload: Buffer


def reader_tag(key: bytes, peer: int, session: int) -> bytes:
    """The tag of what a reader sends in this session."""
    return _tag(key, b"reader", peer, session)


def writer_tag(key: bytes, peer: int, session: int) -> bytes:
    """The tag of what the writer sends in this session."""
    return _tag(key, b"writer", peer, session)


def _tag(key: bytes, direction: bytes, peer: int, session: int) -> bytes:
    return hmac.digest(key, direction + struct.pack("!QQ", peer, session), "sha256")[:16]


def pack_hello(hello: Hello) -> bytes:
    """Build a HELLO."""
    body = _HELLO.pack(*hello[1:5], *hello.position, hello.pid)
    return _HEAD.pack(_MAGIC, _HELLO_KIND, hello.tag) + body


def pack_ack(ack: Ack) -> bytes:
    """Build an ACK."""
    return _HEAD.pack(_MAGIC, _ACK_KIND, ack.tag) + _ACK.pack(
        ack.consumed, *ack.position, ack.taken
    )


def pack_goodbye(goodbye: Goodbye) -> bytes:
    """Build a GOODBYE."""
    return _HEAD.pack(_MAGIC, _GOODBYE_KIND, goodbye.tag)


def pack_state(state: State) -> bytes:
    """Build a STATE."""
    return _HEAD.pack(_MAGIC, _STATE_KIND, state.tag) + _STATE.pack(*state[1:])


def pack_welcome(welcome: Welcome) -> bytes:
    """Build a WELCOME."""
    return _HEAD.pack(_MAGIC, _WELCOME_KIND, welcome.tag) + _WELCOME.pack(*welcome.position)


def pack_refused(refused: Refused) -> bytes:
    """Build a REFUSED."""
    return _HEAD.pack(_MAGIC, _REFUSED_KIND, refused.tag) + refused.reason.encode()


def pack_pieces(tag: bytes, pieces: Sequence[Piece]) -> bytes:
    """Build the first frame of a DATA; the pieces' bytes are the second."""
    table = [_PIECE.pack(*piece.position, piece.pieces, piece.nbytes) for piece in pieces]
    return _HEAD.pack(_MAGIC, _DATA_KIND, tag) + b"".join(table)


def unpack_from_reader(parts: Sequence[Buffer]) -> Hello | Ack | Goodbye | Breach:
    """Read what came at the writer."""
    head = _head(parts)
    if isinstance(head, Breach):
        return head
    kind, tag, body = head
    if len(parts) != 1:
        return Breach(f"{len(parts)} frames where 1 was expected")
    if kind == _HELLO_KIND and len(body) == _HELLO.size:
        peer, session, connection, consumed, sequence, piece, pid = _HELLO.unpack(body)
        return Hello(tag, peer, session, connection, consumed, (sequence, piece), pid)
    if kind == _ACK_KIND and len(body) == _ACK.size:
        consumed, sequence, piece, taken = _ACK.unpack(body)
        return Ack(tag, consumed, (sequence, piece), taken)
    if kind == _GOODBYE_KIND and not body:
        return Goodbye(tag)
    return Breach(f"kind {kind!r} with {len(body)} bytes")


def unpack_from_writer(
    parts: Sequence[Buffer], piece: int | None = None
) -> Welcome | State | Refused | Data | Breach:
    """Read what came at a reader."""
    head = _head(parts)
    if isinstance(head, Breach):
        return head
    kind, tag, body = head
    if kind == _DATA_KIND:
        return _data(tag, body, parts, piece or PIECE)
    if len(parts) != 1:
        return Breach(f"{len(parts)} frames where 1 was expected")
    if kind == _WELCOME_KIND and len(body) == _WELCOME.size:
        sequence, piece = _WELCOME.unpack(body)
        return Welcome(tag, (sequence, piece))
    if kind == _STATE_KIND and len(body) == _STATE.size:
        return State(tag, *_STATE.unpack(body))
    if kind == _REFUSED_KIND:
        return Refused(tag, bytes(body).decode(errors="replace"))
    return Breach(f"kind {kind!r} with {len(body)} bytes")


def _head(parts: Sequence[Buffer]) -> tuple[bytes, bytes, memoryview] | Breach:
    if not parts or len(parts[0]) < _HEAD.size:
        return Breach("no header")
    magic, kind, tag = _HEAD.unpack_from(parts[0])
    if magic != _MAGIC:
        return Breach(f"magic {magic!r} where {_MAGIC!r} was expected")
    return kind, tag, memoryview(parts[0])[_HEAD.size :]


def _data(tag: bytes, body: memoryview, parts: Sequence[Buffer], piece: int) -> Data | Breach:
    if len(parts) != 2:
        return Breach(f"{len(parts)} frames where 2 were expected")
    if not body or len(body) % _PIECE.size or len(body) > MOST_PIECES * _PIECE.size:
        return Breach(f"a table of {len(body)} bytes")
    pieces = []
    total = 0
    for sequence, index, count, nbytes in _PIECE.iter_unpack(body):
        last = index == count - 1
        if index >= count or nbytes > piece or (nbytes < piece and not last):
            return Breach(f"piece {index} of {count} with {nbytes} bytes")
        pieces.append(Piece((sequence, index), count, nbytes))
        total += nbytes
    if total != len(parts[1]):
        return Breach(f"{len(parts[1])} bytes of pieces where {total} were announced")
    return Data(tag, pieces, parts[1])
