"""What a reader takes from the flow: every message by its number, gaps told once, and the end."""

from __future__ import annotations

from collections.abc import Sequence

from aioshm.codec import Buffer
from aioshm.links.flow import cut
from aioshm.links.flow_batch import pack_alone, pack_batch
from aioshm.links.inbox import Inbox, Missing
from aioshm.shm.layout import OBJECT, RAW
from tests.remote_flows import RemoteEnds, RemoteReader


class Box:
    """A writer, one reader and its inbox."""

    def __init__(self, number: int = 0) -> None:
        self.ends = RemoteEnds(0)
        self.ends.sender.number = number
        self.reader: RemoteReader = self.ends.join(0)
        self.inbox = Inbox(self.reader.receiver)
        assert self.inbox.begin()

    def batch(self, *payloads: bytes) -> None:
        """Write small messages."""
        sender = self.ends.sender
        frames = pack_batch(sender.number, payloads)
        sender.number += len(payloads)
        self.append(frames)

    def alone(self, kind: int, *frames: bytes) -> None:
        """Write one message."""
        self.ends.sender.number += 1
        self.append(pack_alone(kind, self.ends.sender.number - 1, frames))

    def append(self, frames: Sequence[Buffer]) -> None:
        """Write whatever it is."""
        self.ends.sender.append(cut(frames, bytes), 1)

    def take(self) -> bytes | Missing | bool:
        """Do what a program's dequeue does."""
        self.ends.run()
        found = self.inbox.look()
        if found is not True:
            return found
        frames = self.inbox.left.pop()
        self.inbox.number += 1
        if not self.inbox.left:
            self.inbox.acknowledge()
        self.ends.run()
        return b"|".join(frames)

    def miss(self) -> None:
        """Be away for too long."""
        self.reader.cut()
        self.ends.sender.let_go(0)

    def back(self) -> None:
        """Come back."""
        self.reader.connect()
        self.ends.run()


def test_messages_come_one_by_one_and_are_acknowledged_with_the_last_of_their_batch() -> None:
    box = Box()
    box.batch(b"a", b"b")
    assert (box.take(), box.ends.sender.messages, box.inbox.number) == (b"a", 1, 1)
    assert (box.take(), box.ends.sender.messages, box.inbox.number) == (b"b", 0, 2)
    assert box.take() is False


def test_before_the_writer_says_where_to_begin_there_is_nothing() -> None:
    ends = RemoteEnds(0)
    inbox = Inbox(ends.reader(0).receiver)
    assert not inbox.begin()
    assert inbox.look() is False
    assert inbox.end(gone=True) is False
    ends.run()
    assert inbox.begin()


def test_numbers_begin_where_the_writer_says() -> None:
    box = Box(number=70)
    box.batch(b"a")
    assert box.take() == b"a"
    assert box.inbox.number == 71


def test_the_kind_of_a_message_and_its_frames_are_kept() -> None:
    box = Box()
    box.alone(RAW, b"raw")
    box.alone(OBJECT, b"head", b"body")
    assert box.take() == b"raw"
    assert box.inbox.kind == RAW
    assert box.take() == b"head|body"
    assert box.inbox.kind == OBJECT


def test_it_knows_whether_the_next_message_of_the_flow_is_there() -> None:
    box = Box()
    box.batch(b"a", b"b")
    box.batch(b"c")
    box.take()
    assert box.inbox.has_more()
    box.take()
    assert box.inbox.has_more()
    box.take()
    assert not box.inbox.has_more()


def test_a_gap_is_told_once_before_the_first_message_after_it() -> None:
    box = Box()
    box.batch(b"0", b"1")
    assert box.take() == b"0"
    box.miss()
    box.batch(b"2", b"3")
    box.back()
    box.batch(b"4")
    assert box.take() == b"1"  # it was received
    assert box.take() == Missing(2, 3)
    assert box.take() == b"4"
    assert box.take() is False
    assert box.ends.sender.messages == 0


def test_what_arrived_between_two_gaps_is_read() -> None:
    box = Box()
    for number in range(3):
        box.miss()
        box.batch(b"missed")
        box.back()
        box.batch(b"%d" % number)
        box.ends.run()
    taken = [box.take() for _ in range(7)]
    assert taken == [Missing(0, 0), b"0", Missing(2, 2), b"1", Missing(4, 4), b"2", False]


def test_the_end_comes_after_everything() -> None:
    box = Box()
    box.batch(b"a")
    assert box.inbox.end(gone=False) is False
    box.ends.sender.tell(ready=True, closed=True)
    box.ends.run()
    assert box.inbox.end(gone=False) is False
    assert box.take() == b"a"
    assert box.inbox.end(gone=False) is True


def test_a_gap_before_the_end_is_told_once() -> None:
    box = Box()
    box.batch(b"a")
    assert box.take() == b"a"
    box.miss()
    box.batch(b"b", b"c")
    box.back()
    box.ends.sender.tell(ready=True, closed=True)
    assert box.take() is False
    assert box.inbox.end(gone=False) == Missing(1, 2)
    assert box.inbox.end(gone=False) is True


def test_what_a_writer_took_with_it_is_a_gap_if_it_had_closed() -> None:
    box = Box()
    assert box.take() is False
    box.batch(b"a", b"b")
    box.ends.sender.tell(ready=True, closed=True)
    for _, parts in box.ends.sender.outgoing():
        if len(parts) == 1:  # the STATE arrives, and the messages do not
            box.reader.receiver.received(parts)
    assert box.inbox.look() is False
    assert box.inbox.end(gone=True) == Missing(0, 1)
    assert box.inbox.end(gone=True) is True


def test_a_writer_that_is_gone_and_had_not_closed_is_no_end() -> None:
    box = Box()
    assert box.take() is False
    assert box.inbox.end(gone=True) is False


def test_what_makes_no_sense_counts_as_missing_and_the_rest_comes() -> None:
    box = Box()
    box.append([b"no mark"])
    box.ends.sender.number += 1
    box.batch(b"good")
    assert box.take() == Missing(0, 0)
    assert box.take() == b"good"
    assert box.ends.sender.messages == 0
