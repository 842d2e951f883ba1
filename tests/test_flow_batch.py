"""Batches come apart as they were put together, and nothing else is taken for one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioshm.codec import Buffer
from aioshm.links.flow_batch import Batch, pack_alone, pack_batch, unpack
from aioshm.shm.layout import OBJECT, OVERFLOW, RAW

NUMBERS = st.integers(0, (1 << 64) - 1)


@given(NUMBERS, st.lists(st.binary(max_size=50), min_size=1, max_size=20))
def test_any_batch_comes_out_as_it_went_in(number: int, payloads: list[bytes]) -> None:
    for urgent in (False, True):
        found = unpack(pack_batch(number, payloads, urgent=urgent))
        assert found == Batch(OBJECT, number, [[payload] for payload in payloads], urgent)


@given(
    st.sampled_from((OBJECT, RAW)),
    NUMBERS,
    st.lists(st.binary(max_size=50), min_size=1, max_size=5),
)
def test_any_message_alone_comes_out_as_it_went_in(
    kind: int, number: int, frames: list[bytes]
) -> None:
    assert unpack(pack_alone(kind, number, frames)) == Batch(kind, number, [[*frames]], True)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b"payload"], "1 frames without a mark"),
        ([b"payload", b"short"], "without a mark"),
        (pack_alone(OVERFLOW, 0, [b"x"]), f"kind {OVERFLOW}"),
        ([b"x", bytes(pack_alone(OBJECT, 0, [])[0]) + b"x"], f"kind {OBJECT}"),
        (pack_alone(0, 0, [b"x"]), "0 bytes"),
        ([b"", *pack_batch(0, [b"a"])], "3 frames"),
        ([b"a", bytes(pack_batch(0, [b"a"])[1])[:-1]], "bytes of lengths"),
        ([b"ab", pack_batch(0, [b"a"])[1]], "2 bytes where its lengths come to 1"),
        ([b"a", pack_batch(0, [b"ab"])[1]], "1 bytes where its lengths come to 2"),
    ],
)
def test_what_is_no_batch_is_said_to_be_none(frames: list[Buffer], reason: str) -> None:
    found = unpack(frames)
    assert isinstance(found, str)
    assert reason in found.replace("9 bytes of lengths", "0 bytes of lengths")


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
def test_noise_raises_nothing(frames: list[bytes]) -> None:
    assert isinstance(unpack(list(frames)), Batch | str)


@given(st.integers(1, 4), st.binary(max_size=30), st.lists(st.integers(0, 20), max_size=4))
def test_lengths_that_lie_give_no_more_bytes_than_there_are(
    kind: int, payload: bytes, lengths: list[int]
) -> None:
    mark = struct.pack(f"!BQ{len(lengths)}I", 0, kind, *lengths)
    found = unpack([payload, mark])
    if isinstance(found, Batch):
        assert b"".join(bytes(frame) for (frame,) in found.messages) == payload
