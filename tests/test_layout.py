"""No shared word touches another's line, and every record that may be written fits a slot."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioshm import PickleCodec
from aioshm.shm.layout import (
    CLAIM,
    CLOSED,
    HEADER,
    LENGTH,
    LINE,
    MAGIC_WORD,
    PAGE,
    SMALLEST_FRAME,
    VERSION_WORD,
    WAKE_AT,
    WRITTEN,
    Layout,
    aligned,
    is_read,
    is_written,
    record_size,
)
from aioshm.shm.record import fill

layouts = st.builds(
    Layout.for_queue,
    st.integers(1, 1 << 24) | st.integers(1, 300),
    st.integers(1, 20),
    st.integers(1, 9000),
)


def lines_of_words(*words: int) -> list[set[int]]:
    """Give the lines that each of these words lies on."""
    return [{word * 8 // LINE, (word * 8 + 7) // LINE} for word in words]


def lines_of(row: slice) -> set[int]:
    """Give the lines that a row of bytes lies on."""
    return set(range(row.start // LINE, (row.stop - 1) // LINE + 1))


def disjoint(parts: list[set[int]]) -> bool:
    """Tell whether no line is in two parts."""
    return sum(map(len, parts)) == len(set().union(*parts))


@settings(deadline=None, max_examples=50)
@given(layouts)
def test_no_two_words_of_the_data_segment_share_a_line(layout: Layout) -> None:
    parts = lines_of_words(WRITTEN, CLAIM, WAKE_AT, CLOSED)
    parts.append(set().union(*lines_of_words(MAGIC_WORD, VERSION_WORD)))  # never written again
    parts.append(lines_of(layout.evicted))
    parts.append({layout.records // LINE})
    assert disjoint(parts)
    assert max(layout.evicted.stop, (CLOSED + 1) * 8) <= layout.records


@settings(deadline=None, max_examples=50)
@given(layouts)
def test_no_two_readers_share_a_line_of_the_control_segment(layout: Layout) -> None:
    parts = lines_of_words(*(layout.read(slot) for slot in range(layout.slots)))
    parts.append(set().union(*lines_of_words(MAGIC_WORD, VERSION_WORD)))
    parts.append(lines_of(layout.parked))
    assert disjoint(parts)
    assert (layout.read(layout.slots - 1) + 1) * 8 <= layout.control_bytes


@settings(deadline=None, max_examples=50)
@given(layouts)
def test_every_slot_has_one_flag_in_each_row(layout: Layout) -> None:
    for row in (layout.evicted, layout.parked):
        assert row.stop - row.start == layout.slots


@settings(deadline=None, max_examples=50)
@given(layouts)
def test_the_ring_starts_on_a_page_and_ends_within_the_segment(layout: Layout) -> None:
    assert layout.records % PAGE == 0
    assert layout.records + layout.capacity <= layout.data_bytes
    assert layout.data_bytes % PAGE == layout.control_bytes % PAGE == 0


@settings(deadline=None, max_examples=50)
@given(layouts)
def test_no_record_exceeds_half_of_the_ring(layout: Layout) -> None:
    assert layout.slot % 64 == 0
    assert 2 * layout.slot <= layout.capacity


def test_there_are_as_many_slots_in_the_ring_as_asked_for_but_two_at_least() -> None:
    assert [Layout.for_queue(100, n, 1).chunks for n in (1, 2, 3, 8)] == [2, 2, 3, 8]


def test_there_are_at_least_as_many_admissions_as_asked_for() -> None:
    assert [Layout.for_queue(100, 2, n).slots for n in (1, 8, 9, 64)] == [8, 8, 16, 64]


@given(st.integers(0, 1 << 70), st.sampled_from([8, 64, 128, 4096]))
def test_aligned_rounds_up_and_no_further(nbytes: int, to: int) -> None:
    assert 0 <= aligned(nbytes, to) - nbytes < to
    assert aligned(nbytes, to) % to == 0


@pytest.mark.parametrize(
    ("lengths", "size"),
    [
        ([0], 64),
        ([32], 64),
        ([33], 128),
        ([96], 128),
        ([0, 0], 64),
        ([0, 1], 128),
        ([24, 64], 128),
        ([25, 64], 192),
        ([24, 65], 192),
        ([0, 1, 1], 192),
        ([100, 0, 0, 1], 256),
    ],
)
def test_records_are_as_large_as_the_drawing_says(lengths: list[int], size: int) -> None:
    assert record_size(lengths) == size


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_a_record_touches_every_line_it_counts_and_none_beyond(lengths: list[int]) -> None:
    size, at = record_size(lengths), 4096
    with mmap.mmap(-1, 16384) as raw:
        raw[:] = b"\xa5" * len(raw)
        fill(raw, at, 0, size, 2, 0, [b"\x5a" * length for length in lengths])
        touched = [index for index, byte in enumerate(raw[:]) if byte != 0xA5]
    assert touched[0] == at
    assert at + size - 64 <= touched[-1] < at + size or lengths[-1] == 0
    assert touched[-1] < at + size


@settings(deadline=None, max_examples=300)
@given(st.data(), st.integers(1, 1 << 20))
def test_every_legal_message_fits_a_slot(data: st.DataObject, payload: int) -> None:
    left, lengths = payload, []
    for length in data.draw(st.lists(st.integers(SMALLEST_FRAME, SMALLEST_FRAME + 99))):
        if length <= left:
            lengths.append(length)
            left -= length
    lengths.insert(0, data.draw(st.integers(0, left)))
    assert record_size(lengths) <= Layout.for_queue(payload, 2, 1).slot


@pytest.mark.parametrize("payload", [1, 63, 64, SMALLEST_FRAME, 10 * SMALLEST_FRAME + 1, 1 << 21])
def test_the_most_frames_with_the_worst_alignment_fit_a_slot(payload: int) -> None:
    frames = payload // SMALLEST_FRAME
    spare = payload - frames * SMALLEST_FRAME
    layout = Layout.for_queue(payload, 2, 1)
    for extra in range(min(spare, 130) + 1):
        others = [SMALLEST_FRAME] * frames
        if others:
            others[0] += extra
        assert record_size([spare - (extra if others else 0), *others]) <= layout.slot


def test_every_message_that_pickle_makes_of_arrays_fits_a_slot() -> None:
    for length in (8192, 8193, 8192 + 63):
        frames = PickleCodec().encode([np.zeros(length, np.uint8) for _ in range(100)])
        lengths = [len(frame) for frame in frames]
        assert len(lengths) == 101
        assert record_size(lengths) <= Layout.for_queue(sum(lengths), 2, 1).slot


def test_the_header_is_as_wide_as_drawn() -> None:
    assert HEADER.size == 32
    assert LENGTH.size == 8
    assert HEADER.pack(1, 2, 3, 4, 5)[8:12] == (2).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("flags", "written", "reads"),
    [
        ("0000", 640, (640, 640, 640)),  # unwritten: nobody has come so far
        ("1000", 704, (640, 640, 640)),  # written, read by nobody
        ("1010", 704, (640, 704, 640)),  # read by some
        ("1111", 704, (704, 704, 704)),  # read by all: free again
        ("1111", 9999, (704, 800, 900)),  # … and left behind
    ],
)
def test_a_chunk_is_in_one_of_four_states(flags: str, written: int, reads: list[int]) -> None:
    position = 640
    states = [is_written(position, written), *(is_read(position, read) for read in reads)]
    assert "".join(str(int(state)) for state in states) == flags
