"""Frames lie in a record where they were put, and garbage is never taken for one."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioshm.shm.layout import HEADER, LENGTH, OBJECT, RAW, record_size
from aioshm.shm.record import Buffer, fill, locate

AT = 512
SIZE = 1 << 16

lists_of_frames = st.lists(st.binary(max_size=300), min_size=1, max_size=12)


@pytest.fixture
def raw() -> Iterator[mmap.mmap]:
    """Give some memory full of other bytes."""
    with mmap.mmap(-1, SIZE) as made:
        made[:] = b"\xa5" * SIZE
        yield made


def write(raw: mmap.mmap, frames: list[bytes], kind: int = OBJECT) -> int:
    """Write a record at AT; returns its size."""
    size = record_size([len(frame) for frame in frames])
    fill(raw, AT, 7 << 40, size, kind, 3, frames)
    return size


def header(raw: mmap.mmap) -> tuple[int, int, int, int, int]:
    """Read the header at AT: position, blocks, meta, number, length of frame 0."""
    position, blocks, meta, number, length = HEADER.unpack_from(raw, AT)
    return position, blocks, meta, number, length


@settings(deadline=None)
@given(lists_of_frames)
def test_what_is_filled_is_found_again(frames: list[bytes]) -> None:
    with mmap.mmap(-1, SIZE) as raw:
        size = write(raw, frames)
        _, blocks, meta, _, length = header(raw)
        assert blocks * 64 == size
        where = locate(raw, AT, size, meta >> 4, length)
        assert where is not None
        assert [raw[part] for part in where] == frames


@settings(deadline=None)
@given(lists_of_frames)
def test_nothing_outside_of_the_record_is_touched(frames: list[bytes]) -> None:
    with mmap.mmap(-1, SIZE) as raw:
        raw[:] = b"\xa5" * SIZE
        size = write(raw, frames)
        assert raw[:AT] == b"\xa5" * AT
        assert raw[AT + size :] == b"\xa5" * (SIZE - AT - size)


def test_the_header_says_what_the_record_is(raw: mmap.mmap) -> None:
    size = write(raw, [b"abc", b"d" * 100], kind=RAW)
    assert header(raw) == (7 << 40, size // 64, 2 << 4 | RAW, 3, 3)


@settings(deadline=None)
@given(lists_of_frames)
def test_every_frame_but_the_first_starts_on_a_multiple_of_64(frames: list[bytes]) -> None:
    with mmap.mmap(-1, SIZE) as raw:
        size = write(raw, frames)
        where = locate(raw, AT, size, len(frames), len(frames[0]))
        assert where is not None
        assert all(part.start % 64 == 0 for part in where[1:])


def test_a_large_single_frame_is_whole(raw: mmap.mmap) -> None:
    body = bytes(range(256)) * 100
    size = write(raw, [body])
    assert locate(raw, AT, size, 1, len(body)) == [slice(AT + 32, AT + 32 + len(body))]
    assert raw[AT + 32 : AT + 32 + len(body)] == body


def test_frames_may_be_any_kind_of_bytes(raw: mmap.mmap) -> None:
    frames: list[Buffer] = [bytearray(b"abc"), memoryview(b"de"), memoryview(bytearray(b"fgh"))[1:]]
    size = record_size([3, 2, 2])
    fill(raw, AT, 0, size, OBJECT, 0, frames)
    where = locate(raw, AT, size, 3, 3)
    assert where is not None
    assert [raw[part] for part in where] == [b"abc", b"de", b"gh"]


@settings(deadline=None)
@given(lists_of_frames, st.integers(0, 2**28 - 1), st.integers(0, 2**64 - 1))
def test_a_wrong_count_or_length_finds_nothing_beyond_the_record(
    frames: list[bytes], count: int, length: int
) -> None:
    with mmap.mmap(-1, SIZE) as raw:
        size = write(raw, frames)
        where = locate(raw, AT, size, count, length)
        assert where is None or all(AT <= p.start <= p.stop <= AT + size for p in where)


@settings(deadline=None)
@given(st.binary(min_size=640, max_size=640), st.integers(0, 10), st.integers(0, 90))
def test_no_table_of_garbage_leads_out_of_the_record(
    garbage: bytes, blocks: int, count: int
) -> None:
    with mmap.mmap(-1, SIZE) as raw:
        raw[AT : AT + 640] = garbage
        size = blocks * 64
        where = locate(raw, AT, size, count, garbage[0])
        assert where is None or all(AT <= p.start <= p.stop <= AT + size for p in where)


@pytest.mark.parametrize("length", [97, 1 << 20, 2**64 - 1])
def test_a_frame_longer_than_its_record_is_no_frame(raw: mmap.mmap, length: int) -> None:
    size = write(raw, [b"x" * 96])
    assert locate(raw, AT, size, 1, 96) is not None
    assert locate(raw, AT, size, 1, length) is None


def test_a_record_of_no_frames_is_no_record(raw: mmap.mmap) -> None:
    size = write(raw, [b"x"])
    assert locate(raw, AT, size, 0, 1) is None


def test_a_record_of_no_bytes_is_no_record(raw: mmap.mmap) -> None:
    write(raw, [b"x"])
    assert locate(raw, AT, 0, 1, 0) is None


def test_a_table_longer_than_its_record_is_no_table(raw: mmap.mmap) -> None:
    raw[AT : AT + 4096] = bytes(4096)
    assert locate(raw, AT, 64, 4, 0) is not None
    assert locate(raw, AT, 64, 6, 0) is None


def test_a_later_frame_that_leaves_the_record_is_no_frame(raw: mmap.mmap) -> None:
    size = write(raw, [b"ab", b"c" * 64])
    LENGTH.pack_into(raw, AT + HEADER.size, 65)
    assert locate(raw, AT, size, 2, 2) is None
