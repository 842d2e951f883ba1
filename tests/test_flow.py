"""The flow protocol, one fact after the other; test_flow_property.py has it do anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioshm.links import flow_receiver, flow_sender, flow_wire
from aioshm.links.flow import PIECE, Breach, Receiver, Sender, cut
from aioshm.links.flow_assembly import Assembly, pack_table
from aioshm.links.flow_wire import Ack, Data, Hello, Piece, Refused, Welcome
from tests.test_flow_property import small_pieces

KEY = bytes(range(32))
SESSION = 77
TAG = flow_wire.reader_tag(KEY, 0, SESSION)
FROM_WRITER = flow_wire.writer_tag(KEY, 0, SESSION)


class Ends:
    """A sender and one receiver, and a connection between them that loses nothing."""

    def __init__(self, max_messages: int = 100, max_bytes: int = 1 << 30) -> None:
        self.sender = Sender(max_messages, max_bytes)
        self.sender.admit(0, KEY)
        self.receiver = Receiver(0, KEY, SESSION, 0)
        self.route = b"first"
        self.receiver.connected()

    def write(self, *frames: bytes) -> int:
        """Append a message."""
        return self.sender.append(cut(frames, bytes), sum(map(len, frames)))

    def up(self) -> None:
        """Deliver what the reader has to say."""
        while (frame := self.receiver.outgoing()) is not None:
            self.receiver.sent()
            assert self.sender.received(self.route, [frame]) is None

    def down(self) -> list[Sequence[bytes]]:
        """What the writer has to say."""
        return [parts for _, parts in self.sender.outgoing()]

    def run(self) -> None:
        """Deliver until nobody has anything to say."""
        while True:
            self.up()
            frames = self.down()
            if not frames:
                return
            for parts in frames:
                assert self.receiver.received(parts) is None


@pytest.fixture
def small() -> Iterator[None]:
    """Pieces of 64 bytes, credit of four."""
    with small_pieces():
        yield


# -- pieces --------------------------------------------------------------------------


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_any_message_comes_out_as_it_went_in(lengths: list[int]) -> None:
    frames = [os.urandom(length) for length in lengths]
    with small_pieces():
        pieces = cut(frames, bytes)
        assert [len(piece) for piece in pieces[:-1]] == [64] * (len(pieces) - 1)
        assembly = Assembly(len(pieces))
        for piece in pieces[:-1]:
            assert assembly.feed(memoryview(piece)) is None
            assert assembly.frames() is None
        assert assembly.feed(memoryview(pieces[-1])) is None
    assert assembly.frames() == frames


@pytest.mark.parametrize("around", [-1, 0, 1])
def test_a_message_of_a_whole_piece_and_one_byte_around_it(around: int) -> None:
    frame = bytes(PIECE - len(pack_table([0])) + around)
    assert [len(piece) for piece in cut([frame], bytes)] == (
        [PIECE + around] if around <= 0 else [PIECE, 1]
    )


def test_cutting_holds_nothing_of_the_callers_memory() -> None:
    frame = bytearray(3 * PIECE)
    pieces = cut([b"head", memoryview(frame)], bytes)
    frame[:] = b"x" * len(frame)
    frame.clear()  # raises BufferError while there is a view of it
    assert not any(any(piece[100:]) for piece in pieces)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"\0\0\0\0", "0 frames"),
        (b"\xff\xff\xff\xff", "4294967295 frames"),
        (pack_table([PIECE]), "in 1 pieces"),
        (pack_table([1]) + b"ab", "more than"),
    ],
)
def test_a_table_that_does_not_fit_its_message_is_a_breach(table: bytes, reason: str) -> None:
    found = Assembly(1).feed(memoryview(table))
    assert isinstance(found, Breach)
    assert reason in found.reason


# -- window and credit -------------------------------------------------------------------


def test_the_window_is_bounded_in_messages_and_in_bytes() -> None:
    ends = Ends(max_messages=3, max_bytes=100)
    assert ends.sender.has_room(100)
    assert not ends.sender.has_room(101)
    ends.write(b"x" * 60)
    assert ends.sender.has_room(40)
    assert not ends.sender.has_room(41)
    ends.write(b"")
    ends.write(b"")
    assert not ends.sender.has_room(0)
    ends.run()
    assert not ends.sender.has_room(0)  # received is not consumed
    ends.receiver.consume(0)
    ends.run()
    assert ends.sender.has_room(100)
    assert ends.sender.messages == 2


def test_the_slowest_reader_keeps_the_window_and_frees_it_by_leaving() -> None:
    ends = Ends()
    ends.sender.admit(1, bytes(32))
    ends.write(b"message")
    ends.run()
    ends.receiver.consume(0)
    ends.run()
    assert ends.sender.messages == 1
    assert (ends.sender.behind(0), ends.sender.behind(1)) == (0, 1)
    ends.sender.remove(1)
    assert ends.sender.messages == 0


def test_what_nobody_is_there_for_needs_no_window() -> None:
    sender = Sender(1, 10)
    for _ in range(5):
        sender.append([b"x"], 10)
    assert sender.messages == 0
    sender.admit(0, KEY)
    assert sender.append([b"x"], 10) == 5


def test_a_message_taken_back_was_never_there() -> None:
    ends = Ends()
    ends.write(b"one")
    ends.sender.retract()
    assert ends.sender.nbytes == 0
    assert ends.write(b"two") == 0
    ends.run()
    assert ends.receiver.body(0) == [b"two"]


@pytest.mark.usefixtures("small")
def test_a_reader_that_grants_nothing_is_sent_no_more_than_the_credit() -> None:
    ends = Ends()
    for _ in range(10):
        ends.write(b"x" * 500)
    ends.up()
    sent = sum(len(parts[1]) for parts in ends.down() if len(parts) == 2)
    assert sent == flow_sender.CREDIT == 4 * 64
    assert ends.down() == []


@pytest.mark.usefixtures("small")
def test_a_reader_that_consumes_nothing_takes_no_more_than_it_can_hold() -> None:
    ends = Ends()
    for _ in range(50):
        ends.write(b"x" * 52)  # a piece each
    ends.run()
    received = sum(ends.receiver.body(n) is not None for n in range(50))
    most = (flow_receiver.AHEAD + flow_sender.CREDIT) / 52 + 2
    assert flow_receiver.AHEAD / 52 < received <= most
    for number in range(50):
        assert ends.receiver.body(number) is not None
        ends.receiver.consume(number)
        ends.run()
    assert ends.sender.messages == 0


def test_a_message_larger_than_credit_and_patience_goes_through() -> None:
    ends = Ends()
    frame = os.urandom(flow_receiver.AHEAD + flow_sender.CREDIT + 12345)
    ends.write(frame)
    ends.run()
    assert ends.receiver.body(0) == [frame]


def test_small_messages_share_a_frame() -> None:
    ends = Ends()
    for number in range(100):
        ends.write(b"%d" % number)
    ends.up()
    assert len(ends.down()) == 2  # the WELCOME, and one frame with all of them
    assert ends.receiver.breaches == ends.sender.breaches == 0


# -- connections ---------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_new_connection_goes_on_within_a_message() -> None:
    ends = Ends()
    ends.write(b"x" * 500)
    ends.up()
    first = ends.down()
    for parts in first[:3]:  # WELCOME and two pieces; the others are lost
        ends.receiver.received(parts)
    ends.receiver.connected()
    ends.route = b"second"
    ends.up()
    again = [flow_wire.unpack_from_writer(parts) for parts in ends.down()]
    assert isinstance(again[0], Welcome)
    assert again[0].position == (0, 2)
    assert isinstance(again[1], Data)
    assert again[1].pieces[0].position == (0, 2)


@pytest.mark.usefixtures("small")
def test_what_an_old_connection_still_brings_is_not_sent_again() -> None:
    ends = Ends()
    ends.write(b"x" * 500)
    ends.up()
    old = ends.down()
    ends.receiver.connected()
    ends.route = b"second"
    ends.up()
    for parts in old:  # read only now, after the new HELLO was sent
        assert ends.receiver.received(parts) is None
    ends.up()
    new = [flow_wire.unpack_from_writer(parts) for parts in ends.down()]
    assert next(frame.pieces[0].position for frame in new if isinstance(frame, Data)) == (0, 4)
    assert ends.sender.breaches == 0


@pytest.mark.usefixtures("small")
def test_a_piece_that_two_connections_bring_counts_once() -> None:
    ends = Ends()
    frame = os.urandom(200)
    ends.write(frame)
    ends.up()
    old = ends.down()
    ends.receiver.connected()
    ends.route = b"second"
    ends.up()
    new = ends.down()
    for one, other in zip(new, old, strict=True):
        assert ends.receiver.received(one) is None
        assert ends.receiver.received(other) is None
    assert ends.receiver.body(0) == [frame]


def test_a_hello_of_an_older_connection_that_comes_late_is_not_heeded() -> None:
    ends = Ends()
    old = ends.receiver.outgoing()
    assert old is not None
    ends.receiver.connected()
    ends.route = b"second"
    ends.up()
    assert ends.sender.received(b"first", [old]) is None
    ends.write(b"x")
    assert {route for route, _ in ends.sender.outgoing()} == {b"second"}


def test_an_ack_ahead_of_its_hello_is_no_breach() -> None:
    ends = Ends()
    ends.write(b"x")
    ends.run()
    ends.receiver.consume(0)
    ack = ends.receiver.outgoing()
    assert ack is not None
    assert ends.sender.received(b"second", [ack]) is None
    assert ends.sender.breaches == 0
    assert ends.sender.messages == 1


def test_nothing_is_sent_to_a_lost_connection_until_there_is_another() -> None:
    ends = Ends()
    ends.run()
    ends.sender.lost(b"first")
    ends.write(b"x")
    assert ends.down() == []
    ends.receiver.connected()
    ends.route = b"second"
    ends.run()
    assert ends.receiver.body(0) == [b"x"]


def test_what_left_the_window_is_a_gap_and_the_rest_comes() -> None:
    ends = Ends()
    for number in range(5):
        ends.write(b"%d" % number)
        if number == 1:
            ends.run()
    ends.sender.remove(0)  # it was away for too long; and then it is let in again
    ends.write(b"5")
    ends.sender.admit(0, KEY)
    ends.write(b"6")
    ends.receiver.connected()
    ends.route = b"second"
    ends.run()
    assert [ends.receiver.is_lost(n) for n in range(8)] == [False] * 2 + [True] * 4 + [False] * 2
    assert ends.receiver.body(6) == [b"6"]
    ends.receiver.consume(6)
    ends.run()
    assert ends.sender.messages == 0
    assert ends.sender.breaches == ends.receiver.breaches == 0


def test_another_session_is_refused_and_told_so() -> None:
    ends = Ends()
    ends.run()
    other = Receiver(0, KEY, 78, 0)
    other.connected()
    hello = other.outgoing()
    assert hello is not None
    assert ends.sender.received(b"other", [hello]) is None
    (route, parts), *_ = ends.sender.outgoing()
    assert route == b"other"
    assert other.received(parts) is None
    assert other.refused == "reader 0 is taken by another session"
    ends.write(b"x")
    ends.run()
    assert ends.receiver.body(0) == [b"x"]


# -- strangers and breakers ------------------------------------------------------------


def ack(consumed: int, position: tuple[int, int], tag: bytes = TAG) -> list[bytes]:
    """An ACK as a reader would send it."""
    return [flow_wire.pack_ack(Ack(tag, consumed, position))]


def hello(consumed: int, position: tuple[int, int], **other: int) -> list[bytes]:
    """A HELLO of reader 0, or of whom it is told."""
    peer, session = other.get("peer", 0), other.get("session", SESSION)
    tag = flow_wire.reader_tag(KEY, peer, session)
    return [flow_wire.pack_hello(Hello(tag, peer, session, 9, consumed, position))]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "no header"),
        ([b""], "no header"),
        ([os.urandom(64)], "magic"),
        ([*ack(1, (1, 0)), b""], "2 frames"),
        ([ack(1, (1, 0))[0][:-1]], "bytes"),
        (ack(3, (3, 0)), "acknowledges 3"),
        (ack(0, (2, 1)), "grants (2, 1)"),
        (ack(2, (1, 0)), "acknowledges 2"),
        (ack(0, (1, 7)), "cannot"),
        (ack(1, (1, 0), bytes(16)), "another session"),
        (hello(0, (5, 0)), "goes on at (5, 0)"),
        (hello(2, (1, 0)), "goes on at (1, 0)"),
        (hello(0, (0, 3)), "there is not"),
        (hello(0, (0, 0), peer=1), "a stranger"),
    ],
)
def test_a_reader_that_breaks_the_protocol_is_ignored_until_it_connects_anew(
    parts: list[bytes], reason: str
) -> None:
    ends = Ends()
    ends.write(b"one")
    ends.write(b"two")
    ends.run()
    assert ends.sender.behind(0) == 2
    found = ends.sender.received(ends.route, parts)
    assert isinstance(found, Breach)
    assert reason in found.reason
    assert ends.sender.breaches == 1
    assert ends.sender.received(ends.route, ack(1, (2, 0))) is None
    assert ends.sender.received(ends.route, [b"noise"]) is None
    ends.write(b"three")
    assert ends.down() == []
    assert (ends.sender.breaches, ends.sender.behind(0)) == (1, 3)
    ends.receiver.connected()
    ends.route = b"second"
    ends.run()
    assert ends.receiver.body(2) == [b"three"]


def test_a_stranger_gets_nothing_and_does_not_disturb() -> None:
    ends = Ends()
    ends.write(b"secret")
    for number, parts in enumerate(
        (
            [b"noise"],
            [flow_wire.pack_hello(Hello(bytes(16), 0, SESSION, 99, 0, (0, 0)))],
            [flow_wire.pack_hello(Hello(TAG, 0, SESSION + 1, 99, 0, (0, 0)))],
            ack(0, (0, 0), bytes(16)),
        )
    ):
        assert isinstance(ends.sender.received(b"stranger %d" % number, parts), Breach)
    assert ends.down() == []
    assert ends.sender.breaches == 4
    ends.run()
    assert ends.receiver.body(0) == [b"secret"]


def data(position: tuple[int, int], pieces: int, payload: bytes, tag: bytes) -> list[bytes]:
    """A DATA of one piece."""
    piece = Piece(position, pieces, len(payload))
    return [flow_wire.pack_pieces(tag, [piece]), payload]


WHOLE = pack_table([3]) + b"abc"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda tag: [b"noise"], "no header"),
        (lambda tag: data((0, 0), 1, WHOLE, bytes(16)), "a stranger"),
        (lambda tag: data((0, 0), 1, WHOLE, tag)[:1], "1 frames"),
        (lambda tag: [*data((0, 0), 1, WHOLE, tag), b""], "3 frames"),
        (lambda tag: [data((0, 0), 1, WHOLE, tag)[0], WHOLE[:-1]], "announced"),
        (lambda tag: [data((0, 0), 1, WHOLE, tag)[0][:-1], WHOLE], "a table of"),
        (lambda tag: [flow_wire.pack_pieces(tag, []), b""], "a table of 0"),
        (lambda tag: data((0, 0), 1, WHOLE[:-1], tag), "ends before"),
        (lambda tag: data((0, 0), 1, WHOLE + b"d", tag), "more than"),
        (lambda tag: data((0, 0), 2, WHOLE, tag), "piece 0 of 2"),
        (lambda tag: data((0, 2), 2, WHOLE, tag), "piece 2 of 2"),
        (lambda tag: data((0, 0), 1, bytes(PIECE + 1), tag), "piece 0 of 1"),
        (lambda tag: data((1, 0), 1, WHOLE, tag), "was expected"),
        (lambda tag: data((0, 1), 2, WHOLE, tag), "was expected"),
        (lambda tag: [flow_wire.pack_welcome(Welcome(tag, (3, 1)))], "within a message"),
        (lambda tag: [flow_wire.pack_welcome(Welcome(tag, (0, 0)))] * 2, "2 frames"),
    ],
)
def test_a_writer_that_breaks_the_protocol_is_ignored_until_there_is_a_new_connection(
    make: Callable[[bytes], list[bytes]], reason: str
) -> None:
    ends = Ends()
    ends.run()
    found = ends.receiver.received(make(FROM_WRITER))
    assert isinstance(found, Breach)
    assert reason in found.reason
    assert ends.receiver.received(data((0, 0), 1, WHOLE, FROM_WRITER)) is None
    assert ends.receiver.body(0) is None
    ends.receiver.connected()
    ends.route = b"second"
    ends.write(b"right")
    ends.run()
    assert ends.receiver.body(0) == [b"right"]
    assert ends.receiver.breaches == 1
    assert ends.sender.breaches == 0


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_no_noise_raises_anywhere(parts: list[bytes]) -> None:
    ends = Ends()
    ends.sender.received(b"noise", parts)
    ends.receiver.received(parts)


@given(
    st.sampled_from([flow_wire.pack_ack, flow_wire.pack_hello]),
    st.lists(st.integers(0, 2**64 - 1), min_size=5, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_no_numbers_raise_at_the_writer(
    pack: Callable[..., bytes], numbers: list[int], piece: int
) -> None:
    ends = Ends()
    ends.write(b"x")
    ends.run()
    peer, session, connection, consumed, sequence = numbers
    if pack is flow_wire.pack_ack:
        frame = pack(Ack(TAG, consumed, (sequence, piece)))
    else:
        frame = pack(Hello(TAG, peer, session, connection, consumed, (sequence, piece)))
    ends.sender.received(ends.route, [frame])


def test_a_refusal_keeps_its_reason() -> None:
    frame = flow_wire.unpack_from_writer([flow_wire.pack_refused(Refused(TAG, "why"))])
    assert frame == Refused(TAG, "why")


def test_noise_of_any_length_is_remembered_within_bounds() -> None:
    sender = Sender(1, 1)
    for number in range(3000):
        sender.received(b"%d" % number, [b"noise"])
    assert sender.breaches == 3000
    assert len(sender._banned._routes) <= 1024
