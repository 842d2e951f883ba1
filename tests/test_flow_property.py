"""The flow protocol between one writer and its readers, over a channel that does what it can.

Each reader has any number of connections, old and new, whose frames may be delivered in
any order between them (in order within one), be cut off, come twice, or be truncated.
Pieces are made small, so that messages have many.
"""

from __future__ import annotations

import contextlib
import random
from collections import deque
from dataclasses import dataclass, field
from unittest import mock

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from aioshm.links import flow_assembly, flow_receiver, flow_sender, flow_window, flow_wire
from aioshm.links.flow import Receiver, Sender, cut

SMALL = 64
MAX_MESSAGES, MAX_BYTES = 12, 1500


def small_pieces() -> contextlib.ExitStack:
    """Have pieces of 64 bytes, and credit and patience in proportion."""
    stack = contextlib.ExitStack()
    for module in (flow_assembly, flow_sender, flow_window, flow_wire):
        stack.enter_context(mock.patch.object(module, "PIECE", SMALL))
    stack.enter_context(mock.patch.object(flow_sender, "CREDIT", 4 * SMALL))
    stack.enter_context(mock.patch.object(flow_receiver, "AHEAD", 6 * SMALL))
    stack.enter_context(mock.patch.object(flow_receiver, "_GRANT_EVERY", SMALL))
    return stack


@dataclass(eq=False)
class Connection:
    """One connection of one reader: what is on its way up and down."""

    reader: Reader
    route: bytes
    up: deque[list[bytes]] = field(default_factory=deque)
    down: deque[list[bytes]] = field(default_factory=deque)


class Reader:
    """A receiver, its connections, and what it still has to get."""

    def __init__(self, number: int, key: bytes, start: int, *, knows: bool) -> None:
        self.receiver = Receiver(number, key, 1000 + number, start if knows else None)
        self.number, self.next = number, start
        self.connection: Connection | None = None
        self.old: list[Connection] = []


class Flow(RuleBasedStateMachine):
    """The machine; its rules are what program, pumps and channel may do at any time."""

    readers: Bundle[Reader] = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.small = small_pieces()
        self.sender = Sender(MAX_MESSAGES, MAX_BYTES)
        self.messages: list[list[bytes]] = []
        self.alive: list[Reader] = []
        self.routes: dict[bytes, Connection] = {}
        self.damaged = self.count = 0

    # -- the program ---------------------------------------------------------------------

    @precondition(lambda self: len(self.alive) < 3)
    @rule(target=readers, knows=st.booleans())
    def admit(self, knows: bool) -> Reader:
        """A reader is let in."""
        self.count += 1
        key = b"%032d" % self.count
        self.sender.admit(self.count, key)
        reader = Reader(self.count, key, len(self.messages), knows=knows)
        self.alive.append(reader)
        return reader

    @rule(reader=consumes(readers))
    def remove(self, reader: Reader) -> None:
        """It leaves, dies or is evicted; its frames may still come."""
        self.alive.remove(reader)
        self.sender.remove(reader.number)

    @rule(lengths=st.lists(st.integers(0, 3 * SMALL), min_size=1, max_size=4), seed=st.integers())
    def enqueue(self, lengths: list[int], seed: int) -> None:
        """The writer accepts a message, if there is room."""
        nbytes = sum(lengths)
        source = random.Random(seed)
        frames = [source.randbytes(length) for length in lengths]
        if not self.sender.has_room(nbytes):
            assert self.sender.messages == MAX_MESSAGES or self.sender.nbytes + nbytes > MAX_BYTES
            return
        pieces = cut(frames, bytes)
        assert all(len(piece) == SMALL for piece in pieces[:-1])
        assert self.sender.append(pieces, nbytes) == len(self.messages)
        self.messages.append(frames)

    @rule(reader=readers)
    def dequeue(self, reader: Reader) -> None:
        """The reader takes the next message, if it is there."""
        self._dequeue(reader)

    def _dequeue(self, reader: Reader) -> bool:
        if reader.receiver.consumed is None or reader.next == len(self.messages):
            return False
        assert not reader.receiver.is_lost(reader.next)
        frames = reader.receiver.body(reader.next)
        if frames is None:
            return False
        assert [bytes(frame) for frame in frames] == self.messages[reader.next]
        assert [type(frame) for frame in frames] == [bytes, *[bytearray] * (len(frames) - 1)]
        reader.receiver.consume(reader.next)
        reader.next += 1
        return True

    # -- connections and pumps -----------------------------------------------------------

    @rule(reader=readers)
    def connect(self, reader: Reader) -> None:
        """A new connection; what is on the old one may still arrive, or not."""
        if reader.connection is not None:
            reader.old.append(reader.connection)
        reader.connection = Connection(reader, b"%d" % len(self.routes))
        self.routes[reader.connection.route] = reader.connection
        reader.receiver.connected()

    @rule(reader=readers)
    def reader_sends(self, reader: Reader) -> None:
        """The reader's pump."""
        self._reader_sends(reader)

    def _reader_sends(self, reader: Reader) -> bool:
        if reader.connection is None:
            return False
        frame = reader.receiver.outgoing()
        if frame is not None:
            reader.receiver.sent()
            reader.connection.up.append([frame])
        return frame is not None

    @rule(most=st.integers(1, 5))
    def writer_sends(self, most: int) -> None:
        """The writer's pump, for so many frames."""
        self._writer_sends(most)

    def _writer_sends(self, most: int) -> bool:
        for number, (route, parts) in enumerate(self.sender.outgoing()):
            connection = self.routes[route]
            assert len(parts[0]) <= flow_wire.LARGEST_TO_READER
            assert len(parts) == 1 or len(parts[1]) <= SMALL
            if connection is connection.reader.connection:
                connection.down.append([bytes(part) for part in parts])
            else:
                self.sender.lost(route)
            if number + 1 == most:
                return True
        return False

    @rule(reader=readers, which=st.integers(0, 3))
    def arrives_at_writer(self, reader: Reader, which: int) -> None:
        """One frame of one of the reader's connections comes at the writer."""
        self._arrives_at_writer(reader, which)

    def _arrives_at_writer(self, reader: Reader, which: int) -> bool:
        connection = self._some(reader, which, up=True)
        if connection is not None:
            self.sender.received(connection.route, connection.up.popleft())
        return connection is not None

    @rule(reader=readers, which=st.integers(0, 3))
    def arrives_at_reader(self, reader: Reader, which: int) -> None:
        """One frame of one of the reader's connections comes at the reader."""
        self._arrives_at_reader(reader, which)

    def _arrives_at_reader(self, reader: Reader, which: int) -> bool:
        connection = self._some(reader, which, up=False)
        if connection is not None and reader.receiver.received(connection.down.popleft()):
            self.connect(reader)
        return connection is not None

    def _some(self, reader: Reader, which: int, *, up: bool) -> Connection | None:
        new = [] if reader.connection is None else [reader.connection]
        there = [c for c in [*new, *reader.old] if (c.up if up else c.down)]
        return there[which % len(there)] if there else None

    @rule(rounds=st.integers(1, 4), dequeues=st.booleans())
    def pumps(self, rounds: int, dequeues: bool) -> None:
        """All pumps do something, and what is on the latest connections arrives."""
        for _ in range(rounds):
            for reader in self.alive:
                self._reader_sends(reader)
                self._arrives_at_writer(reader, 0)
            self._writer_sends(6)
            for reader in self.alive:
                self._arrives_at_reader(reader, 0)
                if dequeues:
                    self._dequeue(reader)

    # -- the channel -----------------------------------------------------------------------

    @rule(reader=readers, which=st.integers(0, 3), up=st.booleans())
    def cut_off(self, reader: Reader, which: int, up: bool) -> None:
        """All that is on its way on an old connection is lost."""
        if reader.old:
            connection = reader.old[which % len(reader.old)]
            (connection.up if up else connection.down).clear()

    @rule(reader=readers, up=st.booleans())
    def repeat(self, reader: Reader, up: bool) -> None:
        """The frame that would come next comes twice."""
        queue = self._queue(reader, up)
        if queue:
            queue.insert(1, queue[0])

    @rule(reader=readers, up=st.booleans(), at=st.integers(0, 200), whole=st.booleans())
    def truncate(self, reader: Reader, up: bool, at: int, whole: bool) -> None:
        """The frame that would come next loses its end."""
        queue = self._queue(reader, up)
        if not queue:
            return
        self.damaged += 1
        if whole and len(queue[0]) > 1:
            queue[0] = queue[0][:1]
        else:
            last = queue[0][-1]
            queue[0] = [*queue[0][:-1], last[: at % max(1, len(last))]]

    def _queue(self, reader: Reader, up: bool) -> deque[list[bytes]] | None:
        connection = reader.connection
        return None if connection is None else connection.up if up else connection.down

    # -- what must be -------------------------------------------------------------------

    @invariant()
    def bounded(self) -> None:
        """The window stays within its bounds, and holds what somebody still needs."""
        slowest = min((reader.next for reader in self.alive), default=len(self.messages))
        assert self.sender.messages >= len(self.messages) - slowest
        assert self.sender.messages <= MAX_MESSAGES
        assert self.sender.nbytes <= MAX_BYTES
        for reader in self.alive:
            assert self.sender.behind(reader.number) >= len(self.messages) - reader.next

    @invariant()
    def honest(self) -> None:
        """Nobody is taken for a breaker of the protocol by what a channel may do."""
        if not self.damaged:
            assert self.sender.breaches == sum(r.receiver.breaches for r in self.alive) == 0

    def teardown(self) -> None:
        """In the end, with a connection that works, everybody has everything."""
        for reader in self.alive:
            self.connect(reader)
        busy = True
        while busy:
            busy = False
            for reader in self.alive:
                busy |= self._reader_sends(reader)
                while self._arrives_at_writer(reader, 0):
                    pass
            busy |= self._writer_sends(1_000_000)
            for reader in self.alive:
                while self._arrives_at_reader(reader, 0):
                    busy = True
                while self._dequeue(reader):
                    busy = True
        try:
            assert all(reader.next == len(self.messages) for reader in self.alive)
            assert self.sender.messages == self.sender.nbytes == 0
            self.honest()
        finally:
            self.small.close()


TestFlow = Flow.TestCase
TestFlow.settings = settings(
    max_examples=150,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
