"""What the flow protocol makes of strangers and of peers that break it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioshm.links import flow_wire
from aioshm.links.flow import PIECE, Breach, Sender
from aioshm.links.flow_assembly import pack_table
from aioshm.links.flow_wire import Ack, Hello, Piece, Refused, Welcome
from tests.flows import FROM_WRITER, KEY, SESSION, TAG, Ends

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
    assert len(sender._banned._items) <= 1024
