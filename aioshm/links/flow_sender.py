"""The writer's end of the flow protocol: one window, and where each reader stands in it."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aioshm.codec import Buffer
from aioshm.links.flow_window import Window
from aioshm.links.flow_wire import (
    MOST_PIECES,
    PIECE,
    START,
    Ack,
    Breach,
    Goodbye,
    Hello,
    Piece,
    Position,
    Refused,
    Welcome,
    pack_pieces,
    pack_refused,
    pack_welcome,
    reader_tag,
    unpack_from_reader,
    writer_tag,
)

CREDIT = 16 << 20
"""Bytes that may be sent beyond what a reader granted: what a frozen one can tie up."""

_REMEMBERED = 1024


class Outgoing(NamedTuple):
    """Something to send: to which route, and the frames."""

    route: bytes
    parts: Sequence[Any]


@dataclass(eq=False)
class Peer:
    """One admitted reader.

    Attributes:
        session, connection: the session it has, and the latest of its connections.
        first: the first message that is for it.
        tag_in, tag_out: what its frames and ours to it carry in this session.
        route: where that connection is reached; None while there is none.
        consumed: all below it is consumed.
        sent, most: the position after the last piece sent, now and on any connection.
        sent_bytes, granted: the same, and the position granted, in bytes of the stream.
        welcome: an answer to its HELLO is due.
        taken: grows as its program takes parts of messages.
    """

    number: int
    key: bytes
    consumed: int
    sent: Position
    most: Position
    sent_bytes: int
    granted: int
    first: int
    session: int | None = None
    connection: int = -1
    tag_in: bytes = b""
    tag_out: bytes = b""
    route: bytes | None = None
    welcome: bool = False
    taken: int = 0


class Sender:
    """The writer's end.

    Args:
        max_messages: messages that the window may hold.
        max_bytes: bytes that the window may hold.
        piece: bytes of a piece; None is PIECE.

    Attributes:
        breaches: how often a peer broke the protocol.
    """

    def __init__(self, max_messages: int, max_bytes: int, piece: int | None = None) -> None:
        self._piece = piece or PIECE
        self._window = Window(max_messages, max_bytes)
        self._peers: dict[int, Peer] = {}
        self._routes: dict[bytes, Peer] = {}
        self._former = _Remembered()
        self._banned = _Remembered()
        self._former_tags = _Remembered()
        self._refusals: list[Outgoing] = []
        self._turn = 0
        self.breaches = 0

    # -- the window --------------------------------------------------------------------

    @property
    def messages(self) -> int:
        """Messages that some reader has not consumed."""
        return self._window.next - self._window.first

    @property
    def nbytes(self) -> int:
        """Bytes of those."""
        return self._window.nbytes

    @property
    def max_bytes(self) -> int:
        """Bytes that the window may hold."""
        return self._window.max_bytes

    def has_room(self, nbytes: int) -> bool:
        """Tell whether a message of that size may be appended now."""
        return self._window.has_room(nbytes)

    def append(self, pieces: Sequence[Any], nbytes: int) -> int:
        """Take a message into the window, for every reader there is; returns its sequence.

        Args:
            pieces: what `cut` made of it.
            nbytes: what it counts for.
        """
        sequence = self._window.append(pieces, nbytes)
        self._trim()
        return sequence

    def retract(self) -> None:
        """Take the message just appended back, before anything of it was sent."""
        if self.messages:
            self._window.retract()

    def _trim(self) -> None:
        consumed = (peer.consumed for peer in self._peers.values())
        self._window.trim(min(consumed, default=self._window.next))

    # -- readers come and go -------------------------------------------------------------

    def admit(self, number: int, key: bytes) -> None:
        """Count a reader among those that every message from now on is for.

        Args:
            number: what it calls itself in its HELLO; of no other reader before it.
            key: 32 secret bytes that it was given.
        """
        start = (self._window.next, 0)
        offset = self._window.offset(start)
        assert offset is not None
        self._peers[number] = Peer(number, key, start[0], start, start, offset, offset, start[0])

    def remove(self, number: int) -> None:
        """Keep nothing any more for a reader that left, died or was evicted."""
        peer = self._peers.pop(number, None)
        if peer is not None:
            self._unroute(peer)
            self._former_tags.add(peer.tag_in)
            self._trim()

    @property
    def unconnected(self) -> int:
        """Readers that have no connection now."""
        return sum(peer.route is None for peer in self._peers.values())

    def behind(self, number: int) -> int:
        """Messages that a reader has not consumed."""
        return self._window.next - self._peers[number].consumed

    def lost(self, route: bytes) -> None:
        """A connection is gone: send nothing there; its reader will make another."""
        peer = self._routes.get(route)
        if peer is not None:
            self._unroute(peer)

    def _unroute(self, peer: Peer) -> None:
        if peer.route is not None:
            del self._routes[peer.route]
            # What it still sends there is late, not wrong.
            self._former.add(peer.route)
            peer.route = None

    # -- what comes in ---------------------------------------------------------------------

    def received(self, route: bytes, parts: Sequence[Buffer]) -> Breach | None:
        """Take what came from a connection; a `Breach` was counted, and changed nothing else.

        After one, everything from that connection is ignored.
        """
        if route in self._banned:
            return None
        frame = unpack_from_reader(parts)
        found: Breach | None
        if isinstance(frame, Hello):
            found = self._hello(route, frame)
        elif isinstance(frame, Ack):
            found = self._ack(route, frame)
        elif isinstance(frame, Goodbye):
            found = self._goodbye(route, frame)
        else:
            found = frame
        if found is not None:
            self.breaches += 1
            self.lost(route)
            self._banned.add(route)
        return found

    def _claimant(self, route: bytes, hello: Hello) -> Peer | Breach | None:
        """Say which reader a HELLO is from; None if it was answered with a refusal."""
        peer = self._peers.get(hello.peer)
        tag = reader_tag(b"" if peer is None else peer.key, hello.peer, hello.session)
        if peer is None or not hmac.compare_digest(tag, hello.tag):
            return Breach(f"a stranger says that it is reader {hello.peer}")
        if self._routes.get(route, peer) is not peer:
            return Breach(f"reader {hello.peer} on the connection of another")
        if peer.session not in (None, hello.session):
            tag = writer_tag(peer.key, peer.number, hello.session)
            self._refuse(route, tag, f"reader {peer.number} is taken by another session")
            return None
        return peer

    def _refuse(self, route: bytes, tag: bytes, reason: str) -> None:
        self._refusals.append(Outgoing(route, [pack_refused(Refused(tag, reason))]))
        self._former.add(route)

    def _hello(self, route: bytes, hello: Hello) -> Breach | None:
        peer = self._claimant(route, hello)
        if not isinstance(peer, Peer):
            return peer
        if hello.connection <= peer.connection:
            self._former.add(route)
            return None  # read late: the reader has a newer connection
        consumed, position = hello.consumed, hello.position
        if consumed == START:
            consumed, position = peer.consumed, (peer.consumed, 0)
        elif consumed < peer.first:
            # It was away for longer than it was waited for.
            consumed, position = peer.first, max(position, (peer.first, 0))
        if not peer.consumed <= consumed <= position[0] or position > peer.most:
            return Breach(f"reader {peer.number} goes on at {position}, {consumed} consumed")
        offset = self._window.offset(position)
        if offset is None:
            return Breach(f"reader {peer.number} goes on at {position}, which there is not")
        self._unroute(peer)
        self._routes[route] = peer
        peer.session, peer.connection, peer.route = hello.session, hello.connection, route
        peer.tag_in, peer.tag_out = hello.tag, writer_tag(peer.key, peer.number, hello.session)
        peer.consumed = consumed
        peer.sent, peer.sent_bytes, peer.granted = position, offset, offset
        peer.welcome = True
        self._trim()
        return None

    def _ack(self, route: bytes, ack: Ack) -> Breach | None:
        peer = self._routes.get(route)
        if peer is None:
            # A reader whose connection came back before it knew may still send one of these
            # ahead of its HELLO.
            if route in self._former or self._is_known(ack.tag):
                return None
            return Breach("an ACK from a stranger")
        if not hmac.compare_digest(peer.tag_in, ack.tag):
            return Breach(f"reader {peer.number} sends an ACK of another session")
        # It may not have heard yet that it was away for longer than it was waited for.
        consumed, position = max(ack.consumed, peer.first), max(ack.position, (peer.first, 0))
        if not peer.consumed <= consumed <= position[0] or position > peer.most:
            return Breach(
                f"reader {peer.number} acknowledges {ack.consumed} and grants {ack.position}, "
                f"where {peer.consumed} is consumed and {peer.most} is sent"
            )
        granted = self._window.offset(position)
        if granted is None or granted < peer.granted:
            return Breach(f"reader {peer.number} grants {ack.position}, which it cannot")
        peer.consumed, peer.granted, peer.taken = consumed, granted, ack.taken
        if position > peer.sent:
            # An old connection still brought it what we were about to send again.
            peer.sent, peer.sent_bytes = position, granted
        self._trim()
        return None

    def _is_known(self, tag: bytes) -> bool:
        return tag in self._former_tags or any(p.tag_in == tag for p in self._peers.values())

    def _goodbye(self, route: bytes, goodbye: Goodbye) -> Breach | None:
        return Breach("a GOODBYE where the local link says it")

    # -- what goes out -----------------------------------------------------------------------

    def outgoing(self) -> Iterator[Outgoing]:
        """Give what is to be sent, one frame of one reader after the other.

        Each is counted as sent when it is given. A caller may stop at any time: the next
        iteration begins with another reader.
        """
        while self._refusals:
            yield self._refusals.pop()
        peers, idle = list(self._peers.values()), 0
        while idle < len(peers):
            self._turn = (self._turn + 1) % len(peers)
            parts = self._next(peer := peers[self._turn])
            if parts is None or peer.route is None:
                idle += 1
            else:
                idle = 0
                yield Outgoing(peer.route, parts)

    def _next(self, peer: Peer) -> Sequence[Any] | None:
        if peer.route is None:
            return None
        if peer.welcome:
            peer.welcome = False
            return [pack_welcome(Welcome(peer.tag_out, peer.sent))]
        table: list[Piece] = []
        payload: list[Any] = []
        total = 0
        while (
            peer.sent[0] < self._window.next
            and peer.sent_bytes - peer.granted < CREDIT
            and len(table) < MOST_PIECES
        ):
            sequence, index = peer.sent
            pieces = self._window.body(sequence).pieces
            piece = pieces[index]
            if total + len(piece) > self._piece:
                break
            table.append(Piece(peer.sent, len(pieces), len(piece)))
            payload.append(piece)
            total += len(piece)
            peer.sent = (sequence, index + 1) if index + 1 < len(pieces) else (sequence + 1, 0)
            peer.sent_bytes += len(piece)
        if not table:
            return None
        peer.most = max(peer.most, peer.sent)
        head = pack_pieces(peer.tag_out, table)
        # One piece goes as it is, so that all readers share its memory.
        return [head, payload[0] if len(payload) == 1 else b"".join(payload)]


class _Remembered:
    """The last so many routes, or tags, of a kind; none is ever given out twice."""

    def __init__(self) -> None:
        self._items: dict[bytes, None] = {}

    def add(self, item: bytes) -> None:
        self._items[item] = None
        if len(self._items) > _REMEMBERED:
            del self._items[next(iter(self._items))]

    def __contains__(self, item: bytes) -> bool:
        return item in self._items
