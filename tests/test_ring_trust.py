"""An evicted reader, a scribbled cursor or a broken header is a typed error, never wrong bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioshm import Evicted, SegmentError
from aioshm.shm import ordering
from aioshm.shm.layout import CLAIM, HEADER, OBJECT, PADDING, RAW, WRITTEN
from aioshm.shm.ring import RingReader
from tests.rings import PAIRINGS, Ring, bodies

Fields = list[int]
POSITION, BLOCKS, META, NUMBER, LENGTH = range(5)


@pytest.fixture(params=PAIRINGS)
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    """Give a ring of two slots of 1000 bytes."""
    with Ring(PAIRINGS[request.param]) as made:
        yield made


def ways_to_read(reader: RingReader) -> list[Callable[[], Any]]:
    """Give the two ways to get a message, each to its end."""

    def in_place() -> object:
        found = reader.borrow()
        if found is not None:
            reader.release()
        return found

    return [reader.try_read, in_place]


# -- eviction ------------------------------------------------------------------------


def test_an_evicted_reader_holds_nobody_back(ring: Ring) -> None:
    ring.join(0)
    ring.fill()
    ring.writer.evict(0)
    assert ring.writer.try_write([b"x"])


def test_an_evicted_reader_hears_so_whatever_it_does_and_however_often(ring: Ring) -> None:
    for unread in (0, 1, 5):
        ring.restart(0)
        reader = ring.join(0)
        for _ in range(unread):
            ring.writer.try_write([b"x"])
        ring.writer.evict(0)
        for read in ways_to_read(reader) * 3:
            with pytest.raises(Evicted, match="was evicted.*join again"):
                read()


def test_an_evicted_reader_throws_overwritten_bytes_away(ring: Ring) -> None:
    for size in (0, 32, 200, 1000):
        ring.restart(0)
        reader = ring.join(0)
        ring.fill(b"old")
        assert bodies(reader.try_read()) == [b"old"]  # it knows of more from here on
        ring.writer.evict(0)
        for _ in range(3 * ring.capacity // 64):
            ring.writer.try_write([b"n" * size])
        for read in ways_to_read(reader) * 3:
            with pytest.raises(Evicted):
                read()


def test_an_eviction_in_the_middle_of_a_copy_is_noticed_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Ring() as ring:
        reader = ring.join(0)
        ring.fill(b"old")

        def evict_first(words: memoryview, index: int) -> int:
            monkeypatch.undo()
            ring.writer.evict(0)
            for _ in range(ring.capacity // 64):
                ring.writer.try_write([b"new"])
            return ordering.load(words, index)

        reader.try_read()
        # The first look at shared words of a reader that knows of more is after its copy.
        monkeypatch.setattr("aioshm.shm.ring_reader.load", evict_first)
        with pytest.raises(Evicted):
            reader.try_read()


def test_an_eviction_inside_a_lease_is_noticed_at_its_end(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill(b"old")
    found = reader.borrow()
    assert found is not None
    ring.writer.evict(0)
    ring.writer.try_write([b"new"])
    assert ring.seen.raw[found[1][0]] == b"new"
    with pytest.raises(Evicted):
        reader.release()


def test_a_departed_reader_is_no_longer_waited_for(ring: Ring) -> None:
    gone, stays = ring.join(0), ring.join(1)
    count = ring.fill()
    for _ in range(count):
        stays.try_read()
    ring.writer.forget(0)
    assert ring.fill() == count
    assert gone.position == 0


def test_a_slot_that_is_used_again_starts_afresh_with_the_next_message(ring: Ring) -> None:
    ring.join(0).arm()
    ring.writer.try_write([b"old"])
    ring.writer.evict(0)
    again = ring.join(0)
    assert again.try_read() is None
    assert not again.arm()
    ring.writer.try_write([b"new"])
    assert again.try_read() == (OBJECT, [b"new"])
    assert ring.cursor(0) == ring.written


def test_a_slot_that_is_used_again_stays_a_reader_after_later_evictions(ring: Ring) -> None:
    ring.join(0)
    ring.writer.evict(0)
    ring.join(1)
    again = ring.join(0)
    ring.writer.evict(1)
    ring.fill()
    assert not ring.writer.try_write([b"x"])
    again.try_read()
    assert ring.writer.try_write([b"x"])


# -- cursors that somebody scribbled over ----------------------------------------------


@pytest.mark.parametrize("value", [0, 2**64 - 64, 2**63], ids=["backwards", "ahead", "far"])
def test_a_cursor_where_none_can_be_is_an_error_of_the_writer(ring: Ring, value: int) -> None:
    reader = ring.join(0)
    ring.fill()
    reader.try_read()
    ring.fill()
    ring.scribble_cursor(0, value)
    before = ring.written
    for look in (
        lambda: ring.writer.try_write([b"x"]),
        lambda: ring.writer.claim(1),
        ring.writer.arm,
        ring.writer.cursors,
    ):
        with pytest.raises(SegmentError, match="cursor of slot 0"):
            look()
    assert ring.written == before


def test_the_errors_name_whom_they_speak_of(ring: Ring) -> None:
    ring.writer.admit(1, "rank 5 (pid 77)")
    ring.scribble_cursor(1, 1 << 40)
    with pytest.raises(SegmentError, match=r"cursor of rank 5 \(pid 77\) is.*evict it"):
        ring.writer.cursors()
    reader = ring.reader_class(ring.seen, ring.control, ring.layout, 1, 0, "reader rank 5")
    ring.writer.evict(1)
    with pytest.raises(Evicted, match="^reader rank 5 was evicted"):
        reader.try_read()


def test_the_writer_goes_on_once_the_scribbler_is_evicted(ring: Ring) -> None:
    ring.join(0)
    other = ring.join(1)
    count = ring.fill()
    ring.scribble_cursor(0, 2**40)
    for _ in range(count):
        other.try_read()
    with pytest.raises(SegmentError):
        ring.writer.try_write([b"x"])
    ring.writer.evict(0)
    assert ring.fill() == count


def test_the_victim_of_a_scribbled_cursor_gets_no_wrong_bytes(ring: Ring) -> None:
    for body in (b"", b"n" * 32, b"n" * 1000):
        for known in (0, 1):
            ring.restart(0)
            reader = ring.join(0)
            ring.fill(b"old")
            for _ in range(known):
                reader.try_read()
            ring.scribble_cursor(0, ring.written)
            while ring.written < 2 * ring.capacity - 1500:
                ring.writer.try_write([body])
            for read in ways_to_read(reader):
                with pytest.raises(SegmentError, match="scribbled over the control segment"):
                    read()


def test_a_reader_that_repeats_its_cursor_gets_the_writer_going_again(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill()
    while reader.try_read():
        pass
    ring.scribble_cursor(0, 0)  # where it was before, so nothing looks wrong
    assert not ring.writer.try_write([b"x" * 1000])
    reader.repeat()
    assert ring.writer.try_write([b"x" * 1000])
    assert bodies(reader.try_read()) == [b"x" * 1000]


def test_a_scribbled_eviction_flag_throws_nobody_out(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"x"])
    with pytest.raises(TypeError):
        ring.seen.raw[ring.layout.evicted.start] = 1
    assert reader.try_read() is not None


def test_a_claim_beyond_the_record_throws_the_bytes_away(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"x"])
    ring.data.words[CLAIM] = ring.capacity + 64
    with pytest.raises(SegmentError, match="wrote over position 0"):
        reader.try_read()


@pytest.mark.parametrize("behind", [True, False], ids=["behind", "too far"])
def test_an_impossible_end_of_the_messages_is_an_error(ring: Ring, behind: bool) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"x"])
    reader.try_read()
    ring.data.words[WRITTEN] = 0 if behind else reader.position + ring.capacity + 64
    for read in ways_to_read(reader):
        with pytest.raises(SegmentError, match="written is"):
            read()


# -- headers that are none ---------------------------------------------------------------

BROKEN: dict[str, Callable[[Fields], Any]] = {
    "another position": lambda h: h.__setitem__(POSITION, h[POSITION] + 64),
    "the lap before": lambda h: h.__setitem__(POSITION, 2**64 - 64),
    "no blocks": lambda h: h.__setitem__(BLOCKS, 0),
    "beyond what is written": lambda h: h.__setitem__(BLOCKS, h[BLOCKS] + 1),
    "no frames": lambda h: h.__setitem__(META, OBJECT),
    "kind 0": lambda h: h.__setitem__(META, 1 << 4),
    "kind 4": lambda h: h.__setitem__(META, 1 << 4 | 4),
    "kind 15": lambda h: h.__setitem__(META, 1 << 4 | 15),
    "padding up to the end": lambda h: h.__setitem__(META, 1 << 4 | PADDING),
    "longer than the record": lambda h: h.__setitem__(LENGTH, 33 + 64 * (h[BLOCKS] - 1)),
    "as long as can be": lambda h: h.__setitem__(LENGTH, 2**64 - 1),
    "zeroes": lambda h: h.__setitem__(slice(None), [0] * 5),
    "ones": lambda h: h.__setitem__(slice(None), [2**64 - 1, 2**32 - 1, 2**32 - 1, 0, 2**64 - 1]),
}


def test_a_broken_header_is_an_error_however_it_is_read(ring: Ring) -> None:
    several = ([b""], [b"x" * 200], [b"x", b"y" * 70])
    starts = (0, ring.capacity - 64, 2**63)
    for how, frames, start in itertools.product(BROKEN, several, starts):
        ring.restart(start)
        reader = ring.join(0)
        ring.writer.try_write(frames)
        fields = ring.header(start)
        BROKEN[how](fields)
        if fields == ring.header(start):
            continue  # at the end of the ring, a padding record may well be there
        ring.scribble_header(start, fields)
        for read in ways_to_read(reader):
            with pytest.raises(SegmentError):
                read()
        assert ring.cursor(0) == reader.position == start, how


def test_nothing_but_zeroes_is_no_record(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"x" * 500])
    ring.data.raw[ring.layout.records :] = bytes(ring.layout.data_bytes - ring.layout.records)
    for read in ways_to_read(reader):
        with pytest.raises(SegmentError, match="no record at position 0"):
            read()


def test_no_flipped_bit_of_a_header_leads_out_of_the_record(ring: Ring) -> None:
    outside = b"\xa5" * (ring.layout.data_bytes - ring.layout.records)
    for frames in ([b"x" * 200], [b"x" * 10, b"y" * 300, b"z"]):
        for bit in range(8 * (HEADER.size + 8 * (len(frames) - 1))):
            ring.restart(0)
            reader = ring.join(0)
            ring.data.raw[ring.layout.records :] = outside
            ring.writer.try_write(frames)
            ring.data.raw[ring.layout.records + bit // 8] ^= 1 << bit % 8
            try:
                record = reader.try_read()
            except SegmentError:
                assert reader.position == 0
                continue
            assert record is not None
            assert record[0] in (OBJECT, RAW)
            assert sum(map(len, record[1])) < ring.written
            assert reader.position == ring.written


def test_a_flipped_bit_of_the_place_is_always_noticed(ring: Ring) -> None:
    for bit in range(8 * 8):
        ring.restart(0)
        reader = ring.join(0)
        ring.writer.try_write([b"x" * 200])
        ring.data.raw[ring.layout.records + bit // 8] ^= 1 << bit % 8
        with pytest.raises(SegmentError):
            reader.try_read()
