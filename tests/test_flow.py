"""The flow protocol, one fact after the other; test_flow_property.py has it do anything."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioshm.links import flow_receiver, flow_sender, flow_wire
from aioshm.links.flow import PIECE, Breach, Receiver, Sender, cut
from aioshm.links.flow_assembly import Assembly, pack_table
from aioshm.links.flow_wire import Data, Welcome
from tests.flows import KEY, Ends
from tests.test_flow_property import small_pieces


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
