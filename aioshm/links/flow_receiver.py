"""A reader's end of the flow protocol: pieces in, whole messages out, acknowledgements back."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from aioshm.codec import Buffer
from aioshm.links.flow_assembly import Assembly, whole
from aioshm.links.flow_wire import (
    START,
    Ack,
    Breach,
    Data,
    Goodbye,
    Hello,
    Position,
    Refused,
    State,
    Welcome,
    pack_ack,
    pack_goodbye,
    pack_hello,
    reader_tag,
    unpack_from_writer,
    writer_tag,
)

AHEAD = 32 << 20
"""Bytes of whole messages that may lie unconsumed before a reader grants no more."""

_GRANT_EVERY = 2 << 20


class Receiver:
    """A reader's end.

    Args:
        number: what the writer calls this reader.
        key: the 32 secret bytes that came with the admission.
        session: a number that no other reader has, and this one for its whole life.
        start: the first message for this reader; None takes the writer's word.
        pid: what it says it is; for the writer's logs and errors.
        piece: bytes of a piece; None is PIECE.

    Attributes:
        consumed: the first message that was not consumed; None before that is known.
        refused: why the writer will not go on, if it said so.
        state: what the writer told last of the queue.
        breaches: how often the peer broke the protocol.
        sound: what came last was no breach.
    """

    def __init__(
        self,
        number: int,
        key: bytes,
        session: int,
        start: int | None,
        pid: int = 0,
        piece: int | None = None,
    ) -> None:
        self._piece = piece
        self._number, self._session, self._pid = number, session, pid
        self._tag_in = writer_tag(key, number, session)
        self._tag_out = reader_tag(key, number, session)
        self._next: Position | None = None if start is None else (start, 0)
        self._granted = self._next
        self._received = 0
        self._assembly: Assembly | None = None
        self._bodies: dict[int, list[Buffer]] = {}
        self._waiting_bytes = 0
        self._connection = -1
        self._taken = 0
        self._floor = 0
        self._hello_due = self._ack_due = self._goodbye_due = self._deaf = False
        self._leaving = False
        self.consumed = start
        self.refused: str | None = None
        self.state: State | None = None
        self.breaches = 0
        self.sound = True

    # -- messages --------------------------------------------------------------------------

    def body(self, sequence: int) -> list[Buffer] | None:
        """The frames of a message; None if they are not all there."""
        return self._bodies.get(sequence)

    @property
    def greeted(self) -> bool:
        """Tell whether the latest connection carried a HELLO."""
        return self._connection >= 0 and not self._hello_due

    def is_lost(self, sequence: int) -> bool:
        """Tell whether a message is in a gap: the writer no longer had it."""
        next_ = self._next
        return next_ is not None and sequence < next_[0] and sequence not in self._bodies

    def after_gap(self, sequence: int) -> int:
        """The first message after a lost one that is there, or may still come."""
        assert self._next is not None
        return min((there for there in self._bodies if there > sequence), default=self._next[0])

    @property
    def floor(self) -> int:
        """The end of the last gap."""
        return self._floor

    def consume(self, sequence: int, *, quietly: bool = False) -> None:
        """Acknowledge a message, and all before it.

        Args:
            sequence: the message.
            quietly: let the writer hear of it only by `acknowledge`, or by the way.
        """
        assert self.consumed is not None
        for number in range(self.consumed, sequence + 1):
            frames = self._bodies.pop(number, None)
            if frames is not None:
                self._waiting_bytes -= sum(map(len, frames))
        self.consumed = max(self.consumed, sequence + 1)
        if not quietly:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Tell the writer what was consumed."""
        self._ack_due = True

    def moved(self, taken: int) -> None:
        """Tell that the program takes parts of a message, by a number that grows with them."""
        self._taken, self._ack_due = taken, True

    # -- what comes in -----------------------------------------------------------------------

    def connected(self) -> None:
        """A new connection stands: introduce ourselves."""
        self._connection += 1
        self._hello_due, self._deaf = True, False
        # What was said on another connection may never have been heard.
        self._goodbye_due = self._leaving

    def received(self, parts: Sequence[Buffer]) -> Breach | None:
        """Take what came; a `Breach` was counted, and the frame was not taken.

        After one, everything is ignored until the next connection, and nothing is sent.
        """
        if self._deaf:
            return None
        frame = unpack_from_writer(parts, self._piece)
        if isinstance(frame, Breach):
            found: Breach | None = frame
        elif not hmac.compare_digest(frame.tag, self._tag_in):
            found = Breach("a stranger sends in the writer's place")
        elif isinstance(frame, Welcome):
            found = self._welcome(frame)
        elif isinstance(frame, State):
            self._told(frame)
            found = None
        elif isinstance(frame, Refused):
            self.refused, found = frame.reason, None
        else:
            found = self._data(frame)
        self.sound = found is None
        if found is not None:
            self.breaches += 1
            self._deaf = True
        return found

    def _welcome(self, welcome: Welcome) -> Breach | None:
        if self._next is None:
            if welcome.position[1]:
                return Breach(f"the writer begins at {welcome.position}, within a message")
            self.consumed, self._next = welcome.position[0], welcome.position
            self._granted = welcome.position
        elif welcome.position > self._next:
            if welcome.position[1]:
                return Breach(f"the writer goes on at {welcome.position}, within a message")
            self._next, self._assembly = welcome.position, None
            self._floor = welcome.position[0]
        return None

    def _told(self, state: State) -> None:
        # One that an old connection brings may be older than what we know.
        before = self.state
        if before is None or (state.next, state.ready, state.closed) >= (
            (before.next, before.ready, before.closed)
        ):
            self.state = state

    def _data(self, data: Data) -> Breach | None:
        view = memoryview(data.payload)
        at = 0
        for position, count, nbytes in data.pieces:
            chunk = view[at : at + nbytes]
            at += nbytes
            if self._next is None or position > self._next:
                return Breach(f"piece {position} where {self._next} was expected")
            if position < self._next:
                continue  # both an old connection and the new one brought it
            if self._assembly is None:
                frames = whole(chunk) if count == 1 else None
                if frames is not None:
                    self._finish(position[0], frames)
                    self._received += nbytes
                    continue
                self._assembly = Assembly(count, self._piece)
            if count != self._assembly.pieces:
                return Breach(f"message {position[0]} of {count} pieces had others before")
            found = self._assembly.feed(chunk)
            if found is None and position[1] + 1 == count:
                frames = self._assembly.frames()
                if frames is None:
                    found = Breach(f"message {position[0]} ends before its table says")
                else:
                    self._finish(position[0], frames)
            elif found is None:
                self._next = (position[0], position[1] + 1)
            if found is not None:
                # What this message had so far is worth nothing: fetch it from the start.
                self._assembly, self._next = None, (position[0], 0)
                return found
            self._received += nbytes
        if self._received >= _GRANT_EVERY:
            self._ack_due = True
        return None

    def _finish(self, sequence: int, frames: list[Buffer]) -> None:
        self._bodies[sequence] = frames
        self._waiting_bytes += sum(map(len, frames))
        self._assembly, self._next = None, (sequence + 1, 0)

    # -- what goes out -----------------------------------------------------------------------

    def outgoing(self) -> bytes | None:
        """Give what is to be sent now; `sent` says that it was."""
        next_ = self._next
        if self._hello_due:
            consumed, position = (START, (0, 0)) if next_ is None else (self._done(), next_)
            hello = Hello(
                self._tag_out, self._number, self._session, self._connection, consumed, position,
                self._pid,
            )  # fmt: skip
            return pack_hello(hello)
        if self._goodbye_due:
            return pack_goodbye(Goodbye(self._tag_out))
        if not self._ack_due or self._deaf or next_ is None:
            return None
        return pack_ack(Ack(self._tag_out, self._done(), self._to_grant(), self._taken))

    def sent(self) -> None:
        """What `outgoing` gave was sent."""
        if self._hello_due:
            # It says all that an ACK would; but only an answer shows that it was heard.
            self._hello_due, self._granted = False, self._next
        elif self._goodbye_due:
            self._goodbye_due = False
        else:
            self._ack_due, self._granted = False, self._to_grant()
        self._received = 0

    def goodbye(self) -> None:
        """Leave: the writer confirms it by a refusal."""
        self._leaving = self._goodbye_due = True

    def _done(self) -> int:
        assert self.consumed is not None
        # What is in a gap will never be consumed, and the writer does not wait for it.
        return max(self.consumed, self._floor)

    def _to_grant(self) -> Position:
        assert self._next is not None
        if (
            self._granted is not None
            and self._granted[0] >= self._done()
            and self._waiting_bytes > AHEAD
            and self.consumed in self._bodies
        ):
            return self._granted
        return self._next
