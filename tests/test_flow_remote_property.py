"""Readers that come, go and come back over a channel that does what it can, by the whole path.

Program to program: outbox, sender, frames, receiver, inbox. A reader may get any gap that
its leave explains, and nothing else but every message, once, in order and by its number.
"""

from __future__ import annotations

import random
from collections import deque
from unittest import mock

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aioshm.ends import outbox
from aioshm.ends.outbox import OVERHEAD, Outbox
from aioshm.links import flow_remote
from aioshm.links.flow import Receiver
from aioshm.links.flow_remote import FAREWELL, Joined, RemoteSender
from aioshm.links.inbox import Inbox, Missing
from aioshm.shm.layout import OBJECT, RAW
from tests.test_flow_property import SMALL, small_pieces

KEY = bytes(range(32))
RANKS = (0, 3)
LARGEST_SMALL, SMALL_LIMIT, LARGE_LIMIT = 2 * SMALL, 10 * SMALL, 12 * SMALL
BIGGEST = 6 * SMALL


class Connection:
    """One connection: what is on its way up and down, and whether the writer knows its end."""

    def __init__(self, reader: Reader, route: bytes) -> None:
        self.reader, self.route = reader, route
        self.up: deque[list[bytes]] = deque()
        self.down: deque[list[bytes]] = deque()


class Reader:
    """A reader's program, its connections, and what it got."""

    def __init__(self, rank: int, session: int) -> None:
        self.rank, self.session = rank, session
        self.receiver = Receiver(rank, KEY, session, None, session)
        self.inbox = Inbox(self.receiver)
        self.connection: Connection | None = None
        self.old: list[Connection] = []
        self.holds = self.missed = self.leaving = self.vanished = self.ended = False
        self.knows = False
        self.next: int | None = None

    @property
    def active(self) -> bool:
        """Tell whether its program goes on."""
        return not self.vanished and self.receiver.refused is None


class RemoteFlow(RuleBasedStateMachine):
    """The machine; its rules are what programs, pumps, clocks and channel may do at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.small = small_pieces()
        for name, value in (("snapshot", bytes), ("SMALL", SMALL), ("_MOST_PAYLOADS", 4)):
            self.small.enter_context(mock.patch.object(outbox, name, value))
        for module in (outbox, flow_remote):
            self.small.enter_context(mock.patch.object(module, "REMOTE_PIECE", SMALL))
        self.sender = RemoteSender(RANKS, KEY)
        self.outbox = Outbox(self.sender, LARGEST_SMALL, SMALL_LIMIT, LARGE_LIMIT)
        self.messages: list[tuple[int, list[bytes]]] = []
        self.readers: list[Reader] = []
        self.routes: dict[bytes, Connection] = {}
        self.live: set[int] = set()
        self.dead: set[int] = set()
        self.damaged = self.partings = 0
        self.closed = False

    # -- the writer's program --------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Both ranks are taken at the start."""
        for rank in RANKS:
            self.come(rank)
        self.pumps(2, True)

    @rule(seed=st.integers(0, 1 << 32), count=st.integers(1, 5))
    def enqueue(self, seed: int, count: int) -> None:
        """The writer accepts some messages, if there is room and nobody is dead."""
        source = random.Random(seed)
        for _ in range(count):
            self._enqueue(source)

    @rule(seed=st.integers(0, 1 << 32), rounds=st.integers(1, 12))
    def traffic(self, seed: int, rounds: int) -> None:
        """Everything works for a while."""
        source = random.Random(seed)
        for _ in range(rounds):
            self._enqueue(source)
            self.pumps(1, source.random() < 0.8)

    def _enqueue(self, source: random.Random) -> None:
        if self.closed or self.dead:
            return
        raw = source.random() < 0.2
        lengths = [source.randint(0, LARGEST_SMALL) for _ in range(source.choice((1, 1, 1, 2, 3)))]
        frames = [source.randbytes(length) for length in lengths[: 1 if raw else 3]]
        nbytes = sum(map(len, frames))
        if not self.outbox.has_room(nbytes):
            assert self.outbox.waiting
            return
        kind = RAW if raw else OBJECT
        self.outbox.append(kind, len(self.messages), frames)
        self.messages.append((kind, frames))

    @rule(ready=st.just(True))
    def ready(self, ready: bool) -> None:
        """All have joined."""
        if not self.closed:
            self.outbox.seal()
            self.sender.tell(ready=ready)

    @precondition(lambda self: len(self.messages) > 40)
    @rule()
    def close(self) -> None:
        """Nothing more will be written."""
        self.closed = True
        self.outbox.seal()
        self.sender.tell(ready=True, closed=True)

    @rule()
    def probe(self) -> None:
        """The writer asks who is there."""
        self.sender.probe()

    @rule(rank=st.sampled_from(RANKS), decided=st.sampled_from((True, True, False)))
    def give_up(self, rank: int, decided: bool) -> None:
        """A reader was away for too long; the writer waits for a decision, or goes on."""
        if rank in self.sender.lost_ranks:
            self.sender.give_up(rank)
            self.live.remove(rank)
            self.dead.add(rank)
            if decided:
                self.dead.remove(rank)
                self.sender.let_go(rank)
                self.outbox.trim()

    def _may_part(self) -> bool:
        # Not so often that nobody gets to read.
        return len(self.messages) >= 10 * self.partings

    @precondition(_may_part)
    @rule(rank=st.sampled_from(RANKS))
    def evict(self, rank: int) -> None:
        """The writer goes on without a reader."""
        self.partings += 1
        if rank in self.live | self.dead:
            self.sender.evict(rank)
            self.outbox.trim()
            self.live.discard(rank)
            self.dead.discard(rank)

    # -- the readers' programs ----------------------------------------------------------

    @precondition(lambda self: sum(reader.active for reader in self.readers) < 3)
    @rule(rank=st.sampled_from(RANKS))
    def come(self, rank: int) -> None:
        """A reader begins to connect."""
        reader = Reader(rank, len(self.readers) + 1)
        self.readers.append(reader)
        self._connect(reader)

    @precondition(_may_part)
    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        """A reader says goodbye."""
        self.partings += 1
        reader = self._reader(which)
        if reader is not None and reader.receiver.state is not None:
            reader.leaving = True
            reader.receiver.goodbye()

    @precondition(_may_part)
    @rule(which=st.integers(0, 9))
    def vanish(self, which: int) -> None:
        """A reader is killed; its frames may still come."""
        self.partings += 1
        reader = self._reader(which)
        if reader is not None:
            reader.vanished = True

    @rule(which=st.integers(0, 9))
    def dequeue(self, which: int) -> None:
        """A reader takes the next message, if it is there."""
        reader = self._reader(which)
        if reader is not None:
            self._dequeue(reader)

    def _dequeue(self, reader: Reader) -> bool:
        inbox = reader.inbox
        if reader.ended or not inbox.begin():
            return False
        if reader.next is None:
            reader.next = inbox.number
        found = inbox.look()
        assert not any(sequence < inbox._at for sequence in reader.receiver._bodies)
        if found is False:
            found = inbox.end(gone=False)
            if found is True:
                assert reader.next == len(self.messages)
                assert self.closed
                reader.ended = True
                return True
        if found is False:
            return False
        if isinstance(found, Missing):
            assert reader.missed
            assert found.first == reader.next <= found.last < len(self.messages)
            reader.next = found.last + 1
            return True
        kind, frames = self.messages[reader.next]
        assert inbox.number == reader.next
        assert inbox.kind == kind
        assert [bytes(frame) for frame in inbox.left.pop()] == frames
        inbox.number += 1
        reader.next += 1
        if not inbox.left:
            inbox.acknowledge()
        return True

    def _reader(self, which: int) -> Reader | None:
        active = [reader for reader in self.readers if reader.active]
        return active[which % len(active)] if active else None

    # -- connections and pumps -----------------------------------------------------------

    @rule(which=st.integers(0, 9), known=st.booleans())
    def connect(self, which: int, known: bool) -> None:
        """A new connection, and the reader may not know yet; the old one may still bring things."""
        reader = self._reader(which)
        if reader is not None:
            self._connect(reader, known=known)

    @rule(which=st.integers(0, 9))
    def hear_of_connection(self, which: int) -> None:
        """A reader's monitor reports its latest connection."""
        reader = self._reader(which)
        if reader is not None and reader.connection is not None and not reader.knows:
            reader.knows = True
            reader.receiver.connected()

    def _connect(self, reader: Reader, *, known: bool = True) -> None:
        if reader.connection is not None:
            reader.old.append(reader.connection)
        reader.connection = Connection(reader, b"%d" % len(self.routes))
        self.routes[reader.connection.route] = reader.connection
        reader.knows = known
        if known:
            reader.receiver.connected()

    @rule(which=st.integers(0, 9))
    def lose(self, which: int) -> None:
        """A connection ends, and both ends know it; what arrived may not have been read."""
        reader = self._reader(which)
        if reader is not None and reader.connection is not None:
            self.sender.lost(reader.connection.route)
            reader.old.append(reader.connection)
            reader.connection = None

    @rule(which=st.integers(0, 9))
    def reader_sends(self, which: int) -> None:
        """A reader's pump."""
        reader = self._reader(which)
        if reader is not None:
            self._reader_sends(reader)

    def _reader_sends(self, reader: Reader) -> bool:
        if reader.connection is None or reader.vanished:
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
            if connection is connection.reader.connection and not connection.reader.vanished:
                connection.down.append([bytes(part) for part in parts])
            else:
                self.sender.lost(route)
            if number + 1 == most:
                return True
        return False

    @rule(which=st.integers(0, 9), connection=st.integers(0, 3))
    def arrives_at_writer(self, which: int, connection: int) -> None:
        """One frame of one of a reader's connections comes at the writer."""
        if self.readers:
            self._arrives_at_writer(self.readers[which % len(self.readers)], connection)

    def _arrives_at_writer(self, reader: Reader, which: int) -> bool:
        connection = self._some(reader, which, up=True)
        if connection is None:
            return False
        self.sender.received(connection.route, connection.up.popleft())
        self.outbox.trim()
        self._heed()
        return True

    def _heed(self) -> None:
        """What the writer does about who joined and left."""
        for event in self.sender.events:
            if isinstance(event, Joined):
                assert event.rank not in self.live
                self.dead.discard(event.rank)
                assert event.rank not in self.sender.lost_ranks
                self.live.add(event.rank)
            else:
                self.live.remove(event.rank)
        self.sender.events = []

    @rule(which=st.integers(0, 9), connection=st.integers(0, 3))
    def arrives_at_reader(self, which: int, connection: int) -> None:
        """One frame of one of a reader's connections comes there."""
        reader = self._reader(which)
        if reader is not None:
            self._arrives_at_reader(reader, connection)

    def _arrives_at_reader(self, reader: Reader, which: int) -> bool:
        connection = self._some(reader, which, up=False)
        if connection is not None and reader.receiver.received(connection.down.popleft()):
            self._connect(reader)
        return connection is not None

    def _some(self, reader: Reader, which: int, *, up: bool) -> Connection | None:
        new = [] if reader.connection is None else [reader.connection]
        there = [c for c in [*new, *reader.old] if (c.up if up else c.down)]
        return there[which % len(there)] if there else None

    @rule(rounds=st.integers(1, 4), dequeues=st.booleans())
    def pumps(self, rounds: int, dequeues: bool) -> None:
        """All pumps do something, and what is on the latest connections arrives."""
        for _ in range(rounds):
            active = [reader for reader in self.readers if reader.active]
            for reader in active:
                self._reader_sends(reader)
                self._arrives_at_writer(reader, 0)
                self._note()
            self._writer_sends(6)
            for reader in active:
                self._arrives_at_reader(reader, 0)
                if dequeues and reader.active:
                    self._dequeue(reader)

    # -- the channel -----------------------------------------------------------------------

    @rule(which=st.integers(0, 9), connection=st.integers(0, 3), up=st.booleans())
    def cut_off(self, which: int, connection: int, up: bool) -> None:
        """All that is on its way on an old connection is lost."""
        reader = self._reader(which)
        if reader is not None and reader.old:
            old = reader.old[connection % len(reader.old)]
            (old.up if up else old.down).clear()

    @rule(which=st.integers(0, 9), up=st.booleans())
    def repeat(self, which: int, up: bool) -> None:
        """The frame that would come next comes twice."""
        queue = self._queue(which, up)
        if queue:
            queue.insert(1, queue[0])

    @rule(which=st.integers(0, 9), up=st.booleans(), at=st.integers(0, 200))
    def truncate(self, which: int, up: bool, at: int) -> None:
        """The frame that would come next loses its end."""
        queue = self._queue(which, up)
        if queue:
            self.damaged += 1
            last = queue[0][-1]
            queue[0] = [*queue[0][:-1], last[: at % max(1, len(last))]]

    def _queue(self, which: int, up: bool) -> deque[list[bytes]] | None:
        reader = self._reader(which)
        if reader is None or reader.connection is None:
            return None
        return reader.connection.up if up else reader.connection.down

    # -- what must be -------------------------------------------------------------------

    @invariant()
    def roster(self) -> None:
        """The events tell exactly who has a rank."""
        assert set(self.sender.live_ranks) == self.live
        assert self.sender.dead == self.dead

    def _note(self) -> None:
        """Whose rank is gone has an excuse for a gap."""
        sessions = {peer.session for peer in self.sender._peers.values()}
        for reader in self.readers:
            held, reader.holds = reader.holds, reader.session in sessions
            reader.missed |= held and not reader.holds

    @invariant()
    def bounded(self) -> None:
        """The window stays within its bounds, and holds what somebody still needs."""
        self._note()
        box = self.outbox
        assert 0 <= box.small <= SMALL_LIMIT
        assert 0 <= box.large <= max(LARGE_LIMIT, BIGGEST + OVERHEAD)
        for reader in self.readers:
            if reader.holds and not reader.missed and reader.next is not None:
                assert box.waiting >= len(self.messages) - reader.next

    @invariant()
    def honest(self) -> None:
        """Nobody is taken for a breaker of the protocol by what a channel may do."""
        if not self.damaged:
            assert self.sender.breaches == 0
            assert not any(reader.receiver.breaches for reader in self.readers)

    def teardown(self) -> None:
        """In the end, with connections that work, everybody gets everything, or a gap."""
        try:
            if not self.closed:
                self.close()
            for reader in self.readers:
                for connection in (*reader.old, *filter(None, (reader.connection,))):
                    connection.up.clear()
                    connection.down.clear()
                if reader.active:
                    self._connect(reader)
            self._settle()
            for reader in self.readers:
                if reader.active:
                    assert reader.ended
                    assert not reader.leaving
                    reader.receiver.goodbye()
                elif reader.leaving and not reader.vanished and not reader.missed:
                    assert reader.receiver.refused == FAREWELL
            self._settle()
            assert not any(reader.active for reader in self.readers)
            for rank in {*self.live, *self.dead}:  # theirs who vanished
                self.sender.let_go(rank)
            self.outbox.trim()
            assert self.sender.messages == self.sender.nbytes == 0
            assert self.outbox.waiting == self.outbox.small == self.outbox.large == 0
            self.honest()
        finally:
            self.small.close()

    def _settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for reader in self.readers:
                if reader.active:
                    busy |= self._reader_sends(reader)
                while self._arrives_at_writer(reader, 0):
                    pass
                self._note()
            busy |= self._writer_sends(1_000_000)
            for reader in self.readers:
                while reader.active and self._arrives_at_reader(reader, 0):
                    busy = True
                while reader.active and self._dequeue(reader):
                    busy = True


TestRemoteFlow = RemoteFlow.TestCase
TestRemoteFlow.settings = settings(
    max_examples=150,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
