"""The packets of admission come through whole, and nothing that comes in can raise."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioshm.links import hello
from aioshm.links.hello import Hello, Welcome

TOKEN = bytes(range(32))
PACKET = hello.pack_hello(3, 4711, TOKEN)
WELCOME = Welcome(
    payload=1000,
    slot_bytes=1152,
    chunks=8,
    slots=64,
    slot=5,
    position=2**63 + 64,
    number=2**40,
    ready=1,
    pid=4711,
)

words = st.integers(0, 2**64 - 1)
fields: dict[str, st.SearchStrategy[Any]] = {f.name: words for f in dataclasses.fields(Welcome)}
fields["key"] = st.binary(min_size=32, max_size=32)
fields["overflow"] = st.text("abcXYZ0189-_.", max_size=255)
welcomes = st.builds(Welcome, **fields)


# -- hello ---------------------------------------------------------------------------


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32))
def test_a_hello_comes_through_whole(rank: int, pid: int, token: bytes) -> None:
    assert hello.unpack_hello(hello.pack_hello(rank, pid, token), token) == Hello(rank, pid)


def test_a_hello_with_a_wrong_token_is_refused_by_name() -> None:
    for other in (bytes(32), TOKEN[::-1], TOKEN[:-1] + b"\0"):
        said = hello.unpack_hello(hello.pack_hello(3, 1, other), TOKEN)
        assert isinstance(said, str)
        assert "wrong token" in said


def test_a_hello_of_another_version_is_refused_by_both_versions() -> None:
    for version in (0, hello.WIRE_VERSION + 1, 2**32 - 1):
        said = hello.unpack_hello(PACKET[:8] + version.to_bytes(4, "big") + PACKET[12:], TOKEN)
        assert isinstance(said, str)
        assert f"version {version}," in said
        assert f"version {hello.WIRE_VERSION};" in said


def test_another_version_is_told_apart_whatever_its_hello_holds() -> None:
    start = PACKET[:8] + (hello.WIRE_VERSION + 1).to_bytes(4, "big")
    for rest in (b"", b"x", b"x" * 1000):
        assert isinstance(hello.unpack_hello(start + rest, TOKEN), str)


def test_every_truncated_hello_is_a_strangers() -> None:
    for length in range(len(PACKET)):
        assert hello.unpack_hello(PACKET[:length], TOKEN) is None


def test_a_hello_with_something_behind_it_is_a_strangers() -> None:
    assert hello.unpack_hello(PACKET + b"x", TOKEN) is None


def test_every_flipped_bit_of_a_hello_is_a_stranger_or_a_refusal_or_another_rank() -> None:
    for bit in range(8 * len(PACKET)):
        flipped = bytearray(PACKET)
        flipped[bit // 8] ^= 1 << bit % 8
        said = hello.unpack_hello(bytes(flipped), TOKEN)
        if bit < 8 * 8:
            assert said is None
        elif 12 * 8 <= bit < 24 * 8 and isinstance(said, Hello):
            assert (said.rank == 3) != (said.pid == 4711)  # nothing but the pid or the rank
        else:
            assert isinstance(said, str)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_strangers(garbage: bytes) -> None:
    assert hello.unpack_hello(garbage, TOKEN) is None


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_behind_the_magic_never_gets_in(garbage: bytes) -> None:
    assert not isinstance(hello.unpack_hello(PACKET[:8] + garbage, TOKEN), Hello)


def test_the_protocols_of_others_are_strangers() -> None:
    for packet in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 40, b"\xff" * len(PACKET)):
        assert hello.unpack_hello(packet, TOKEN) is None


# -- welcome -------------------------------------------------------------------------


@given(welcomes)
def test_a_welcome_comes_through_whole(welcome: Welcome) -> None:
    packet = hello.pack_welcome(welcome)
    assert packet[:1] == hello.WELCOME
    assert hello.unpack_welcome(packet) == welcome


def test_a_truncated_or_longer_welcome_is_none() -> None:
    packet = hello.pack_welcome(WELCOME)
    for length in range(len(packet)):
        assert hello.unpack_welcome(packet[:length]) is None
    assert hello.unpack_welcome(packet + b"\0") is None


def test_no_other_packet_passes_for_a_welcome() -> None:
    for packet in (hello.READY, hello.CLOSED, hello.GOODBYE, hello.pack_refusal("no")):
        assert hello.unpack_welcome(packet) is None


# -- the others ------------------------------------------------------------------------


def test_a_refusal_carries_its_reason() -> None:
    assert hello.pack_refusal("rank 3 is taken") == hello.REFUSED + b"rank 3 is taken"


@pytest.mark.parametrize("reason", ["x" * 10_000, "ü" * 10_000], ids=["ascii", "umlauts"])
def test_a_reason_of_any_length_fits_a_packet(reason: str) -> None:
    packet = hello.pack_refusal(reason)
    assert len(packet) <= hello.LARGEST
    assert packet[1:].decode(errors="replace").startswith(reason[:1000])


def test_every_kind_of_packet_has_a_first_byte_of_its_own() -> None:
    kinds = {hello.WELCOME, hello.REFUSED, hello.CLOSED, hello.READY, hello.GOODBYE}
    assert len(kinds) == 5
    assert all(len(kind) == 1 for kind in kinds)


def test_every_packet_fits_the_largest() -> None:
    assert len(PACKET) <= hello.LARGEST
    assert len(hello.pack_welcome(WELCOME)) <= hello.LARGEST
