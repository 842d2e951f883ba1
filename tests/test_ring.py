"""The ring takes every legal record, gives each back once and whole, and never overwrites one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aioshm import Evicted, MessageTooLarge
from aioshm.shm.layout import MARKER, OBJECT, OVERFLOW, RAW, SMALLEST_FRAME, record_size
from aioshm.shm.record import Buffer
from tests.rings import PAIRINGS, Ring, bodies


@pytest.fixture(params=PAIRINGS)
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    """Give a ring of two slots of 1000 bytes."""
    with Ring(PAIRINGS[request.param]) as made:
        yield made


@pytest.fixture(params=PAIRINGS)
def large(request: pytest.FixtureRequest) -> Iterator[Ring]:
    """Give a ring whose messages have room for several frames."""
    with Ring(PAIRINGS[request.param], payload=3 * SMALLEST_FRAME, chunks=2) as made:
        yield made


# -- one message ---------------------------------------------------------------------


def test_an_empty_ring_gives_none(ring: Ring) -> None:
    reader = ring.join(0)
    assert reader.try_read() is None
    assert reader.borrow() is None


def test_a_message_comes_back_as_it_was(ring: Ring) -> None:
    reader = ring.join(0)
    assert ring.writer.try_write([b"hello"])
    assert reader.try_read() == (OBJECT, [b"hello"])
    assert reader.try_read() is None


def test_an_empty_message_comes_back(ring: Ring) -> None:
    reader = ring.join(0)
    assert ring.writer.try_write([b""])
    assert reader.try_read() == (OBJECT, [b""])


def test_a_message_of_many_frames_comes_back_frame_by_frame(large: Ring) -> None:
    reader = large.join(0)
    frames = [b"head", b"", b"x" * SMALLEST_FRAME, b"y" * 77]
    assert large.writer.try_write(frames)
    assert bodies(reader.try_read()) == frames


def test_a_frame_may_be_any_kind_of_bytes(large: Ring) -> None:
    reader = large.join(0)
    several: list[list[Buffer]] = [
        [memoryview(b"abc")[1:]],
        [bytearray(b"bc")],
        [bytearray(b"bc"), memoryview(b"de")],
    ]
    for frames in several:
        assert large.writer.try_write(frames)
        assert bodies(reader.try_read()) == [bytes(frame) for frame in frames]


def test_a_large_single_frame_that_is_a_view_comes_back(large: Ring) -> None:
    reader = large.join(0)
    body = bytes(range(256)) * 40
    assert large.writer.try_write([memoryview(body)])
    assert reader.try_read() == (OBJECT, [body])


def test_what_is_read_is_the_callers_and_shares_nothing_with_the_ring(large: Ring) -> None:
    reader = large.join(0)
    frames = [b"head", b"x" * SMALLEST_FRAME]
    large.writer.try_write(frames)
    record = reader.try_read()
    large.data.raw[large.layout.records :] = bytes(large.layout.data_bytes - large.layout.records)
    assert bodies(record) == frames


def test_frames_beside_the_first_are_writable(large: Ring) -> None:
    reader = large.join(0)
    large.writer.try_write([b"head", b"x" * SMALLEST_FRAME])
    record = reader.try_read()
    assert record is not None
    view = memoryview(record[1][1])
    view[0] = 0
    assert view[0] == 0


def test_what_is_written_may_be_changed_at_once(large: Ring) -> None:
    reader = large.join(0)
    frames = [bytearray(b"head"), bytearray(b"x" * SMALLEST_FRAME)]
    large.writer.try_write(frames)
    for frame in frames:
        frame[:] = bytes(len(frame))
    assert bodies(reader.try_read()) == [b"head", b"x" * SMALLEST_FRAME]


def test_both_sides_number_the_messages(ring: Ring) -> None:
    first = ring.join(0)
    ring.writer.try_write([b"a"])
    second = ring.join(1)
    ring.writer.try_write([b"b"])
    assert (first.number, second.number, ring.writer.number) == (0, 1, 2)
    first.try_read()
    second.try_read()
    assert (first.number, second.number) == (1, 2)


# -- every position ------------------------------------------------------------------


def largest(ring: Ring) -> list[bytes]:
    """Give the frames of a record that fills its slot as far as any legal one does."""
    return [b"", *([b"z" * SMALLEST_FRAME] * (ring.layout.payload // SMALLEST_FRAME))]


def test_the_largest_message_fits_an_empty_ring_at_every_position(large: Ring) -> None:
    for frames in ([b"f" * large.layout.payload], largest(large)):
        for start in range(0, large.capacity, 64):
            large.restart(start)
            reader = large.join(0)
            assert large.writer.try_write(frames), f"refused at {start} of {large.capacity}"
            assert bodies(reader.try_read()) == frames


def test_a_claim_of_the_largest_size_fits_an_empty_ring_at_every_position(ring: Ring) -> None:
    nbytes = ring.layout.payload
    for start in range(0, ring.capacity, 64):
        ring.restart(start)
        reader = ring.join(0)
        where = ring.writer.claim(nbytes)
        assert where is not None, f"refused at {start} of {ring.capacity}"
        ring.data.raw[where] = b"c" * nbytes
        ring.writer.commit(nbytes)
        assert reader.try_read() == (RAW, [b"c" * nbytes])


def test_no_record_crosses_the_end_of_the_ring(large: Ring) -> None:
    first, last = large.layout.records, large.layout.records + large.capacity
    frames = [b"head", b"x" * SMALLEST_FRAME, b"y"]
    for start in range(0, large.capacity, 64):
        large.restart(start)
        reader = large.join(0)
        large.writer.try_write(frames)
        found = reader.borrow()
        assert found is not None
        head, *others = found[1]
        assert (head.start - 32 - 8 * 2) % 64 == 0
        assert all(part.start % 64 == 0 for part in others)
        assert first < head.start <= others[-1].stop <= last


@pytest.mark.parametrize(
    "start",
    [2**32 - 640, 2**32, 2**63 - 640, 2**63, 2**64 - 2**20],
    ids=["below 2^32", "2^32", "below 2^63", "2^63", "below 2^64"],
)
def test_positions_of_any_size_go_round(ring: Ring, start: int) -> None:
    ring.restart(start)
    readers = [ring.join(0), ring.join(1)]
    for number in range(200):
        body = [bytes([number]) * (number * 5)]
        assert ring.writer.try_write(body)
        assert [bodies(reader.try_read()) for reader in readers] == [body, body]
    assert ring.writer.position == readers[0].position == ring.written > start + 3 * ring.capacity


def test_every_mix_of_sizes_goes_round_without_a_gap(large: Ring) -> None:
    reader = large.join(0)
    for number in range(600):
        body = bytes([number % 251]) * (number * 37 % 4000)
        frames = [body] if number % 3 else [body, body[::2], b""]
        assert large.writer.try_write(frames)
        assert bodies(reader.try_read()) == frames
    assert large.writer.position > 10 * large.capacity


# -- too large -----------------------------------------------------------------------


def test_a_message_above_the_limit_is_refused_and_the_ring_stays_as_it_was(ring: Ring) -> None:
    reader = ring.join(0)
    with pytest.raises(MessageTooLarge, match="1001 bytes where max_chunk_bytes is 1000") as caught:
        ring.writer.try_write([b"x" * 1001])
    assert (caught.value.size, caught.value.limit) == (1001, 1000)
    assert (ring.writer.position, ring.writer.number, ring.written) == (0, 0, 0)
    assert reader.try_read() is None


def test_frames_count_together(ring: Ring) -> None:
    with pytest.raises(MessageTooLarge) as caught:
        ring.writer.try_write([b"x" * 500, b"y" * 501])
    assert (caught.value.size, caught.value.limit) == (1001, 1000)


def test_more_frames_than_a_slot_has_room_for_are_refused(ring: Ring) -> None:
    frames = [b"x"] * 100
    with pytest.raises(MessageTooLarge, match="table and alignment") as caught:
        ring.writer.try_write(frames)
    assert caught.value.size == record_size([1] * 100)
    assert caught.value.limit == ring.layout.slot


def test_a_claim_above_the_limit_is_refused(ring: Ring) -> None:
    with pytest.raises(MessageTooLarge):
        ring.writer.claim(1001)


def test_a_full_ring_still_says_that_a_message_is_too_large(ring: Ring) -> None:
    ring.join(0)
    ring.fill()
    with pytest.raises(MessageTooLarge):
        ring.writer.try_write([b"x" * 1001])


# -- full ----------------------------------------------------------------------------


def test_a_full_ring_says_no_and_stays_as_it_was(ring: Ring) -> None:
    ring.join(0)
    ring.fill()
    before = (ring.writer.position, ring.writer.number, ring.written, ring.data.raw[:])
    assert not ring.writer.try_write([b"x"])
    assert ring.writer.claim(1) is None
    assert (ring.writer.position, ring.writer.number, ring.written, ring.data.raw[:]) == before


def test_the_ring_is_full_when_not_one_more_record_fits(ring: Ring) -> None:
    ring.join(0)
    assert ring.fill() == ring.capacity // 64
    assert ring.written == ring.capacity


def test_one_message_read_makes_room_for_one_more(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill()
    reader.try_read()
    assert ring.fill() == 1


def test_the_slowest_reader_is_waited_for(ring: Ring) -> None:
    fast, slow = ring.join(0), ring.join(1)
    count = ring.fill()
    for _ in range(count):
        fast.try_read()
    assert ring.fill() == 0
    slow.try_read()
    assert ring.fill() == 1


def test_nothing_unread_is_overwritten_however_often_the_writer_tries(ring: Ring) -> None:
    reader = ring.join(0)
    count = 0
    while ring.writer.try_write([b"%d" % count]):
        count += 1
    for body in (b"", b"x" * 500, b"y" * 1000):
        ring.fill(body)
    assert [bodies(reader.try_read()) for _ in range(count)] == [[b"%d" % i] for i in range(count)]


def test_room_in_two_pieces_is_not_enough_for_a_record(ring: Ring) -> None:
    reader, body = ring.join(0), [b"x" * 1000]
    size = record_size([1000])
    at_the_end = 384
    for _ in range((ring.capacity - at_the_end) // 64):
        ring.writer.try_write([b""])
    while reader.position < size - 64:
        reader.try_read()
    assert at_the_end + reader.position >= size
    assert not ring.writer.try_write(body)
    reader.try_read()
    assert ring.writer.try_write(body)


def test_without_readers_the_writer_goes_on_for_ever(ring: Ring) -> None:
    for _ in range(10):
        assert ring.writer.try_write([b"x" * 1000])


def test_the_writer_knows_what_everybody_has_read(ring: Ring) -> None:
    first, second = ring.join(0), ring.join(1)
    ring.writer.try_write([b"x"])
    first.try_read()
    assert not ring.writer.is_read(0)
    second.try_read()
    assert ring.writer.is_read(0)
    assert not ring.writer.is_read(64)


# -- in place ------------------------------------------------------------------------


def test_a_claim_is_unseen_until_it_is_committed(ring: Ring) -> None:
    reader = ring.join(0)
    where = ring.writer.claim(5)
    assert where is not None
    ring.data.raw[where] = b"hello"
    assert reader.try_read() is None
    ring.writer.commit(5)
    assert reader.try_read() == (RAW, [b"hello"])


@pytest.mark.parametrize("nbytes", [0, 1, 31, 32, 33, 999])
def test_less_may_be_committed_than_was_claimed(ring: Ring, nbytes: int) -> None:
    reader = ring.join(0)
    where = ring.writer.claim(1000)
    assert where is not None
    ring.data.raw[where] = bytes(range(250)) * 4
    ring.writer.commit(nbytes)
    ring.writer.try_write([b"next"])
    assert reader.try_read() == (RAW, [(bytes(range(250)) * 4)[:nbytes]])
    assert reader.try_read() == (OBJECT, [b"next"])


def test_a_claim_that_is_not_committed_is_forgotten(ring: Ring) -> None:
    for start in range(0, ring.capacity, 64):
        ring.restart(start)
        reader = ring.join(0)
        assert ring.writer.claim(1000) is not None  # near the end it lays a padding record
        ring.writer.try_write([b"x"])
        assert reader.try_read() == (OBJECT, [b"x"])
        assert reader.try_read() is None


def test_a_borrowed_message_stays_the_next_until_it_is_released(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"first"])
    ring.writer.try_write([b"second"])
    for _ in range(2):
        found = reader.borrow()
        assert found is not None
        kind, (where,) = found
        assert (kind, ring.seen.raw[where]) == (OBJECT, b"first")
        assert reader.number == 0
        assert ring.cursor(0) == 0
    reader.release()
    assert reader.number == 1
    assert reader.try_read() == (OBJECT, [b"second"])


def test_a_borrowed_message_is_not_overwritten(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"first"])
    found = reader.borrow()
    assert found is not None
    ring.fill(b"x" * 32)
    assert ring.seen.raw[found[1][0]] == b"first"
    reader.release()
    assert ring.fill(b"x" * 32) == 1


def test_a_message_may_be_borrowed_and_then_read(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"first"])
    reader.borrow()
    assert reader.try_read() == (OBJECT, [b"first"])
    assert reader.borrow() is None


def test_a_marker_stays_until_it_is_released(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"before"])
    assert ring.writer.has_room_for_marker()
    ring.writer.write_marker(7, 123456)
    ring.writer.try_write([b"after"])
    assert bodies(reader.try_read()) == [b"before"]
    position = reader.position
    for _ in range(3):
        record = reader.try_read()
        assert record is not None
        assert (record[0], MARKER.unpack(record[1][0])) == (OVERFLOW, (7, 123456))
        assert (reader.position, ring.cursor(0), reader.number) == (position, position, 1)
    found = reader.borrow()
    assert found is not None
    assert found[0] == OVERFLOW
    reader.release()
    assert reader.number == 2
    assert bodies(reader.try_read()) == [b"after"]


def test_a_full_ring_has_no_room_for_a_marker_and_an_empty_one_has_anywhere(ring: Ring) -> None:
    for start in range(0, ring.capacity, 64):
        ring.restart(start)
        reader = ring.join(0)
        assert ring.writer.has_room_for_marker()
        ring.writer.write_marker(start, 1)
        record = reader.try_read()
        assert record is not None
        assert MARKER.unpack(record[1][0]) == (start, 1)
        ring.fill()
        assert not ring.writer.has_room_for_marker()


def test_an_evicted_reader_is_not_given_a_marker(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.write_marker(0, 1)
    assert reader.try_read() is not None
    ring.writer.evict(0)
    with pytest.raises(Evicted):
        reader.try_read()
