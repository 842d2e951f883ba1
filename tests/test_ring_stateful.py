"""Whatever happens at a ring in whatever order, it does what a list of messages would do."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aioshm import Evicted, MessageTooLarge
from aioshm.shm.layout import OBJECT, RAW
from aioshm.shm.ring import RingReader
from tests.rings import PAIRINGS, Pairing, Ring, bodies

Message = tuple[int, list[bytes]]
SLOTS = 4
PAYLOAD = 600

lengths = st.one_of(st.integers(0, 40), st.integers(0, PAYLOAD), st.just(PAYLOAD))
starts = st.builds(
    lambda base, lines: base + 64 * lines,
    st.sampled_from([0, 2**32 - 2048, 2**63 - 2048]),
    st.integers(0, 64),
)


def up(nbytes: int) -> int:
    """Round up to 64."""
    return -(-nbytes // 64) * 64


def drawn_size(sizes: list[int]) -> int:
    """Give the size of a record as layout.py draws it."""
    end = 32 + 8 * (len(sizes) - 1) + sizes[0]
    for size in sizes[1:]:
        end = up(end) + size
    return up(end)


class Modelled:
    """A reader, and what it has to get."""

    def __init__(self, reader: RingReader, position: int) -> None:
        self.reader = reader
        self.due: list[tuple[Message, int]] = []
        self.cursor = position
        self.parked = False


class RingMachine(RuleBasedStateMachine):
    """The ring beside its model: for every reader a list of messages and where each ends."""

    pairing: Pairing

    @initialize(start=starts, chunks=st.integers(2, 4), readers=st.integers(1, 3))
    def begin(self, start: int, chunks: int, readers: int) -> None:
        """Make a ring and some readers."""
        self.ring = Ring(self.pairing, payload=PAYLOAD, chunks=chunks, start=start)
        self.position, self.number = start, 0
        self.live: dict[int, Modelled] = {}
        self.evicted: dict[int, Modelled] = {}
        self.wake_at = 0
        for slot in range(readers):
            self.join(slot)

    def teardown(self) -> None:
        """Give the memory back."""
        if hasattr(self, "ring"):
            self.ring.__exit__(None, None, None)

    # -- the model -----------------------------------------------------------------

    def placed(self, size: int) -> tuple[int, bool]:
        """Say where a record would end, and whether there is room for it."""
        left = -self.position % self.ring.capacity or self.ring.capacity
        end = self.position + size + (left if size > left else 0)
        slowest = min((each.cursor for each in self.live.values()), default=self.position)
        return end, end <= slowest + self.ring.capacity

    def published(self, message: Message, end: int) -> None:
        """Enter a message, and look who is to be woken."""
        self.position = end
        self.number += 1
        assert sorted(self.ring.writer.owed) == sorted(
            slot for slot, each in self.live.items() if each.parked
        )
        self.ring.writer.owed.clear()
        for each in self.live.values():
            each.due.append((message, end))
            each.parked = False

    def consumed(self, each: Modelled) -> Message:
        """Take the next message off a reader's list, and look whether it had to ring."""
        message, end = each.due.pop(0)
        assert each.reader.owed == (each.cursor < self.wake_at <= end)
        each.reader.owed = False
        each.cursor = end
        return message

    # -- writing -------------------------------------------------------------------

    @rule(sizes=st.lists(lengths, min_size=1, max_size=4), fill=st.binary(min_size=1, max_size=1))
    def write(self, sizes: list[int], fill: bytes) -> None:
        """Write a message if it is legal and there is room."""
        self.write_one([fill * size for size in sizes])

    @rule(sizes=st.lists(st.sampled_from([0, 20, 33, 96]), min_size=1, max_size=2))
    def write_until_full(self, sizes: list[int]) -> None:
        """Write until there is no room."""
        number = -1
        while number < self.number:
            number = self.number
            self.write_one([b"%c" % (number % 256) * size for size in sizes])

    def write_one(self, frames: list[bytes]) -> None:
        """Write a message, and compare what comes of it with the model."""
        sizes = [len(frame) for frame in frames]
        size = drawn_size(sizes)
        if sum(sizes) > PAYLOAD or size > self.ring.layout.slot:
            with pytest.raises(MessageTooLarge):
                self.ring.writer.try_write(frames)
            return
        end, fits = self.placed(size)
        assert self.ring.writer.try_write(frames) == fits
        if fits:
            self.published((OBJECT, frames), end)

    @rule(nbytes=lengths, shrink=st.integers(0, 100), keep=st.booleans())
    def write_in_place(self, nbytes: int, shrink: int, keep: bool) -> None:
        """Claim room, fill it, and commit some of it or nothing."""
        _, fits = self.placed(drawn_size([nbytes]))
        where = self.ring.writer.claim(nbytes)
        assert (where is not None) == fits
        if where is None:
            return
        padding = where.start - 32 - self.ring.at(self.position)
        self.ring.data.raw[where] = b"c" * nbytes
        if keep:
            nbytes = max(0, nbytes - shrink)
            self.ring.writer.commit(nbytes)
            end = self.position + padding % self.ring.capacity + drawn_size([nbytes])
            self.published((RAW, [b"c" * nbytes]), end)

    @rule()
    def park_writer(self) -> None:
        """Arm the writer behind a message that does not fit."""
        size = drawn_size([PAYLOAD])
        end, fits = self.placed(size)
        if not fits:
            assert not self.ring.writer.try_write([b"x" * PAYLOAD])
            assert not self.ring.writer.arm()
            self.wake_at = self.ring.wake_at
            assert end - self.ring.capacity <= self.wake_at <= self.position

    @rule()
    def unpark_writer(self) -> None:
        """Disarm it."""
        self.ring.writer.disarm()
        self.wake_at = 0

    # -- reading -------------------------------------------------------------------

    def pick(self, who: dict[int, Modelled], data: st.DataObject) -> Modelled:
        """Choose one of some readers."""
        return who[data.draw(st.sampled_from(sorted(who)), label="slot")]

    @rule(data=st.data(), most=st.integers(1, 30))
    def read(self, data: st.DataObject, most: int) -> None:
        """Read some messages."""
        each = self.pick(self.live, data)
        for _ in range(most):
            got = each.reader.try_read()
            if not each.due:
                assert got is None
                return
            kind, frames = self.consumed(each)
            assert got is not None
            assert got[0] == kind
            assert bodies(got) == frames

    @rule(data=st.data(), keep=st.booleans())
    def read_in_place(self, data: st.DataObject, keep: bool) -> None:
        """Borrow a message, and release it or not."""
        each = self.pick(self.live, data)
        found = each.reader.borrow()
        assert (found is None) == (not each.due)
        if found is None:
            return
        (kind, frames), _ = each.due[0]
        assert found[0] == kind
        assert [self.ring.seen.raw[part] for part in found[1]] == frames
        if not keep:
            each.reader.release()
            self.consumed(each)

    @rule(data=st.data(), stay=st.booleans())
    def park_reader(self, data: st.DataObject, stay: bool) -> None:
        """Arm a reader; disarm it at once if there is something to read, or it changes its mind."""
        each = self.pick(self.live, data)
        assert each.reader.arm() == bool(each.due)
        each.parked = stay and not each.due
        if not each.parked:
            each.reader.disarm()

    # -- coming and going ----------------------------------------------------------

    @rule(slot=st.integers(0, SLOTS - 1))
    def join(self, slot: int) -> None:
        """Let a reader in, at the next message."""
        if slot not in self.live and slot not in self.evicted:
            self.live[slot] = Modelled(self.ring.join(slot), self.position)

    @precondition(lambda self: len(self.live) > 1)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Let a reader say goodbye."""
        slot = data.draw(st.sampled_from(sorted(self.live)))
        self.ring.writer.forget(slot)
        del self.live[slot]

    @precondition(lambda self: len(self.live) > 1)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        """Go on without a reader that is still there."""
        slot = data.draw(st.sampled_from(sorted(self.live)))
        self.ring.writer.evict(slot)
        each = self.evicted[slot] = self.live.pop(slot)
        assert self.ring.writer.owed == ([slot] if each.parked else [])
        self.ring.writer.owed.clear()

    @precondition(lambda self: self.evicted)
    @rule(data=st.data(), in_place=st.booleans(), exits=st.booleans())
    def evicted_reader_moves(self, data: st.DataObject, in_place: bool, exits: bool) -> None:
        """Let it hear that it was evicted; perhaps it exits then, and its slot is free."""
        slot = data.draw(st.sampled_from(sorted(self.evicted)))
        reader = self.evicted[slot].reader
        assert reader.arm()
        reader.disarm()
        with pytest.raises(Evicted):
            self.read_once(reader, in_place)
        if exits:
            del self.evicted[slot]

    def read_once(self, reader: RingReader, in_place: bool) -> None:
        """Read a message in one of the two ways."""
        if in_place:
            reader.borrow()
            reader.release()
        else:
            reader.try_read()

    # -- always --------------------------------------------------------------------

    @invariant()
    def both_agree_where_everybody_is(self) -> None:
        """Compare every shared word with the model."""
        if not hasattr(self, "ring"):
            return
        writer = self.ring.writer
        assert (writer.position, writer.number) == (self.position, self.number)
        assert self.ring.written == self.position
        assert writer.cursors() == {slot: each.cursor for slot, each in self.live.items()}
        for slot, each in self.live.items():
            assert self.ring.cursor(slot) == each.reader.position == each.cursor
            assert each.reader.number == self.number - len(each.due)
            assert self.ring.parked[slot] == each.parked


@pytest.mark.parametrize("name", PAIRINGS)
def test_the_ring_does_what_its_model_does(name: str) -> None:
    machine = type("Machine", (RingMachine,), {"pairing": PAIRINGS[name]})
    machine.TestCase.settings = settings(  # type: ignore[attr-defined]
        deadline=None,
        max_examples=100,
        stateful_step_count=60,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase().runTest()  # type: ignore[attr-defined]
