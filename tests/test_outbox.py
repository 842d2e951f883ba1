"""What is written for other machines: gathered in order, bounded by kind, and counted down."""

from __future__ import annotations

import pytest

from aioshm.ends import outbox
from aioshm.ends.outbox import OVERHEAD, Outbox
from aioshm.links.flow_batch import SMALL, Batch, unpack
from aioshm.shm.layout import OBJECT, RAW
from tests.helpers import HANG
from tests.remote_flows import RemoteEnds, RemoteReader

LARGEST, SMALL_LIMIT, LARGE_LIMIT = 1000, 4000, 6000


class Writer:
    """An outbox over a sender, with one reader."""

    def __init__(self, largest: int = LARGEST, small: int = SMALL_LIMIT) -> None:
        self.ends = RemoteEnds(0)
        self.box = Outbox(self.ends.sender, largest, small, LARGE_LIMIT)
        self.reader: RemoteReader = self.ends.join(0)
        self.number = 0

    def write(self, *frames: bytes | bytearray, kind: int = OBJECT) -> None:
        """Write a message; there must be room."""
        assert self.box.has_room(sum(map(len, frames)))
        self.box.append(kind, self.number, frames)
        self.number += 1

    def received(self) -> list[Batch]:
        """What the reader has, as messages of the flow."""
        self.ends.run()
        found = []
        for sequence in range(self.ends.sender.first, self.ends.sender.first + 50):
            frames = self.reader.receiver.body(sequence)
            if frames is not None:
                batch = unpack(frames)
                assert isinstance(batch, Batch)
                found.append(batch)
        return found

    def consume(self, sequence: int) -> None:
        """Have the reader take messages of the flow."""
        self.reader.receiver.consume(sequence)
        self.ends.run()
        self.box.trim()


def test_small_messages_are_gathered_until_there_is_something_to_send() -> None:
    writer = Writer()
    for payload in (b"a", b"b", b"c"):
        writer.write(payload)
    assert (writer.ends.sender.messages, writer.box.waiting) == (0, 3)
    assert writer.received() == [Batch(OBJECT, 0, [[b"a"], [b"b"], [b"c"]], False)]
    assert (writer.ends.sender.messages, writer.box.waiting) == (1, 3)


def turns_until_sealed(writer: Writer, first: int, each: int) -> int:
    """How many turns, the first one included, bring messages before they are sealed."""
    before = writer.ends.sender.messages
    turns = 0
    while writer.ends.sender.messages == before:
        for _ in range(each if turns else first):
            writer.write(b"x")
        assert writer.box.gather(False) == (writer.ends.sender.messages == before)
        turns += 1
    return turns


@pytest.mark.parametrize(
    ("first", "each", "turns"),
    [(1, 1, 1), (2, 2, 1), (31, 31, 1), (32, 0, 2), (64, 2, 2), (32, 32, 8), (64, 64, 4)],
)
def test_a_batch_waits_for_more_in_a_flood_only(
    monkeypatch: pytest.MonkeyPatch, first: int, each: int, turns: int
) -> None:
    monkeypatch.setattr(outbox, "_LONGEST", HANG)
    writer = Writer(small=1 << 20)
    for _ in range(2):
        assert turns_until_sealed(writer, first, each) == turns
    assert writer.box.waiting == 2 * (first + (turns - 1) * each)


def test_a_batch_does_not_wait_for_long_even_in_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_LONGEST", 0.0)
    assert turns_until_sealed(Writer(small=1 << 20), 64, 64) == 1


def test_a_batch_is_sealed_at_once_where_it_must_be() -> None:
    writer = Writer(small=1 << 20)
    for _ in range(64):
        writer.write(b"x")
    assert writer.box.gather(False)
    assert not writer.box.gather(True)
    assert [len(batch.messages) for batch in writer.received()] == [64]


def test_batches_are_urgent_once_a_quarter_of_the_room_is_taken() -> None:
    writer = Writer()
    urgent = []
    while writer.box.has_room(36):
        writer.write(bytes(36))
        writer.box.seal()
        urgent.append((writer.box.small > SMALL_LIMIT // 4, writer.received()[-1].urgent))
    assert all(due == said for due, said in urgent)
    assert {said for _, said in urgent} == {False, True}


def test_the_order_is_that_of_writing_whatever_goes_alone() -> None:
    writer = Writer()
    writer.write(b"a")
    writer.write(b"raw", kind=RAW)
    writer.write(b"b")
    writer.write(b"two", b"frames")
    writer.write(bytes(LARGEST + 1))
    writer.write(b"c")
    batches = writer.received()
    assert [(batch.kind, batch.number) for batch in batches] == [
        (OBJECT, 0), (RAW, 1), (OBJECT, 2), (OBJECT, 3), (OBJECT, 4), (OBJECT, 5),
    ]  # fmt: skip
    assert batches[3].messages == [[b"two", b"frames"]]
    assert writer.ends.sender.number == 6


def test_a_message_that_may_be_changed_afterwards_is_copied() -> None:
    writer = Writer()
    mine = [bytearray(b"before") for _ in range(2)]
    writer.write(mine[0])
    writer.write(b"head", mine[1])
    for each in mine:
        each[:] = b"after!"
    assert [batch.messages for batch in writer.received()] == [
        [[b"before"]],
        [[b"head", b"before"]],
    ]


def test_a_batch_is_sealed_when_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_MOST_PAYLOADS", 3)
    writer = Writer()
    for _ in range(7):
        writer.write(b"x")
    assert (writer.ends.sender.messages, len(writer.box.payloads)) == (2, 1)


def test_what_is_longer_than_a_batch_takes_goes_alone() -> None:
    writer = Writer(largest=4 * SMALL, small=16 * SMALL)
    writer.write(bytes(SMALL))
    assert len(writer.box.payloads) == 1
    writer.write(bytes(SMALL + 1))
    assert [len(batch.messages) for batch in writer.received()] == [1, 1]
    assert writer.box.large == 0


def test_small_messages_are_bounded_with_their_overhead_and_gathered_ones_count() -> None:
    writer = Writer()
    written = 0
    while writer.box.has_room(36):
        writer.write(bytes(36))
        written += 1
    assert written == SMALL_LIMIT // (36 + OVERHEAD)
    assert writer.box.small == written * (36 + OVERHEAD)
    assert writer.box.waiting == written
    assert writer.box.has_room(LARGEST + 1)  # the other kind
    writer.ends.run()
    assert not writer.box.has_room(36)
    writer.consume(0)
    assert (writer.box.small, writer.box.waiting) == (0, 0)
    assert writer.box.has_room(LARGEST)


def test_large_messages_are_bounded_by_themselves() -> None:
    writer = Writer()
    writer.write(bytes(3000))
    assert writer.box.has_room(LARGE_LIMIT - 3000 - 2 * OVERHEAD)
    assert not writer.box.has_room(LARGE_LIMIT - 3000 - 2 * OVERHEAD + 1)
    assert writer.box.has_room(LARGEST)
    assert writer.box.large == 3000 + OVERHEAD
    writer.ends.run()
    writer.consume(0)
    assert (writer.box.large, writer.box.waiting) == (0, 0)


def test_the_largest_message_fits_an_empty_window_whatever_its_overhead() -> None:
    writer = Writer(largest=LARGEST, small=LARGEST)
    assert writer.box.has_room(LARGEST)
    assert writer.box.has_room(LARGE_LIMIT)
    writer.write(bytes(LARGEST))
    writer.write(bytes(LARGE_LIMIT))
    assert not writer.box.has_room(0)
    assert not writer.box.has_room(LARGEST + 1)


def test_what_nobody_is_there_for_leaves_room() -> None:
    writer = Writer()
    writer.ends.sender.let_go(0)
    for _ in range(200):
        writer.write(bytes(36))
        writer.write(bytes(LARGEST + 1))
    writer.box.seal()
    assert writer.box.waiting == writer.box.small == writer.box.large == 0
    assert writer.box.room == SMALL_LIMIT
    assert writer.ends.sender.number == 400
