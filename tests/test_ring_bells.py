"""Whoever waits at the ring is woken once, at the right moment; no bell is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioshm.shm import ordering
from aioshm.shm.layout import WRITTEN, record_size
from aioshm.shm.ring import RingReader
from tests.rings import PAIRINGS, Ring, bodies


@pytest.fixture(params=PAIRINGS)
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    """Give a ring of sixteen slots of 1000 bytes."""
    with Ring(PAIRINGS[request.param], chunks=16) as made:
        yield made


def interrupted(real: Callable[..., None], hit: Callable[..., bool]) -> Callable[..., None]:
    """Make an access raise KeyboardInterrupt instead, once, where `hit` says so."""
    armed = [True]

    def access(*args: Any) -> None:
        if armed[0] and hit(*args):
            armed[0] = False
            raise KeyboardInterrupt
        real(*args)

    return access


def read_all(reader: RingReader) -> int:
    """Read until the ring is empty; count how often the reader owed the writer a bell."""
    owed = 0
    while reader.try_read() is not None:
        owed += reader.owed
        reader.owed = False
    return owed


# -- a parked reader -----------------------------------------------------------------


def test_a_reader_that_finds_nothing_parks(ring: Ring) -> None:
    reader = ring.join(3)
    assert not reader.arm()
    assert ring.parked == bytes([0, 0, 0, 1, 0, 0, 0, 0])


def test_a_reader_that_finds_a_message_at_the_second_look_does_not(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"x"])
    assert reader.arm()
    reader.disarm()
    assert not any(ring.parked)


def test_a_reader_that_finds_the_queue_closed_at_the_second_look_does_not(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.close()
    assert reader.arm()


def test_a_reader_that_finds_itself_evicted_at_the_second_look_does_not(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.evict(0)
    assert reader.arm()


def test_a_message_wakes_all_who_parked_and_nobody_else(ring: Ring) -> None:
    readers = [ring.join(slot) for slot in range(4)]
    readers[1].arm()
    readers[3].arm()
    ring.writer.try_write([b"x"])
    assert sorted(ring.writer.owed) == [1, 3]
    assert not any(ring.parked)


def test_a_reader_is_woken_once_for_each_time_it_parked(ring: Ring) -> None:
    reader = ring.join(0)
    reader.arm()
    for _ in range(3):
        ring.writer.try_write([b"x"])
    assert ring.writer.owed == [0]
    ring.writer.owed.clear()
    read_all(reader)
    reader.arm()
    ring.writer.try_write([b"x"])
    assert ring.writer.owed == [0]


def test_a_reader_that_got_up_again_is_left_alone(ring: Ring) -> None:
    reader = ring.join(0)
    reader.arm()
    reader.disarm()
    ring.writer.try_write([b"x"])
    assert ring.writer.owed == []


def test_a_committed_claim_wakes_like_any_message(ring: Ring) -> None:
    reader = ring.join(0)
    reader.arm()
    ring.writer.claim(10)
    assert ring.writer.owed == []
    ring.writer.commit(10)
    assert ring.writer.owed == [0]


def test_closing_wakes_all_who_parked(ring: Ring) -> None:
    readers = [ring.join(slot) for slot in range(3)]
    readers[0].arm()
    readers[2].arm()
    ring.writer.close()
    assert sorted(ring.writer.owed) == [0, 2]
    assert all(reader.is_closed() for reader in readers)


def test_what_was_written_before_the_close_is_still_read(ring: Ring) -> None:
    reader = ring.join(0)
    ring.writer.try_write([b"last"])
    ring.writer.close()
    assert bodies(reader.try_read()) == [b"last"]
    assert reader.try_read() is None


def test_evicting_wakes_that_reader_alone(ring: Ring) -> None:
    readers = [ring.join(slot) for slot in range(3)]
    for reader in readers:
        reader.arm()
    ring.writer.evict(1)
    assert ring.writer.owed == [1]
    assert ring.parked[:3] == b"\1\0\1"


def test_nobody_is_rung_for_who_is_gone(ring: Ring) -> None:
    ring.join(0).arm()
    ring.writer.forget(0)
    ring.writer.try_write([b"x"])
    assert ring.writer.owed == []


def test_a_flag_that_no_reader_raised_is_lowered_and_rings_nobody(ring: Ring) -> None:
    ring.join(0)
    ring.control.raw[ring.layout.parked.start + 5] = 255
    ring.writer.try_write([b"x"])
    assert ring.writer.owed == []
    assert not any(ring.parked)


def test_a_bell_of_a_reader_is_due_while_its_flag_stands_beside_a_message(ring: Ring) -> None:
    reader = ring.join(0)
    reader.arm()
    assert not reader.overdue()
    ring.writer.try_write([b"x"])
    assert not reader.overdue()  # its flag was lowered: the bell is on its way
    reader.arm()
    assert reader.overdue()
    reader.disarm()
    assert not reader.overdue()


# -- a parked writer -----------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 100, 1000], ids=["small", "middle", "large"])
def test_a_parked_writer_names_a_position_within_its_bounds(ring: Ring, nbytes: int) -> None:
    ring.join(0)
    ring.fill(bytes(nbytes))
    assert not ring.writer.arm()
    size, capacity, position = record_size([nbytes]), ring.capacity, ring.writer.position
    padding = -position % capacity if -position % capacity < size else 0
    enough = position + padding + size - capacity
    assert ring.wake_at == max(
        enough, min(position - 3 * capacity // 4, position - capacity + 64 * size)
    )


def test_at_the_named_position_there_is_room_for_the_message(ring: Ring) -> None:
    for start in range(0, ring.capacity, 448):
        for nbytes in (0, 100, 1000):
            ring.restart(start)
            reader, body = ring.join(0), [bytes(nbytes)]
            ring.fill(bytes(nbytes))
            ring.writer.arm()
            while reader.position < ring.wake_at:
                assert not reader.owed
                reader.try_read()
            assert reader.owed
            assert ring.writer.try_write(body)


def test_a_writer_that_finds_room_at_the_second_look_does_not_park(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill()
    reader.try_read()
    assert ring.writer.arm()


def test_only_the_store_that_crosses_the_position_rings(ring: Ring) -> None:
    readers = [ring.join(slot) for slot in range(3)]
    ring.fill()
    ring.writer.arm()
    assert [read_all(reader) for reader in readers] == [1, 1, 1]
    ring.writer.disarm()
    ring.fill()
    assert [read_all(reader) for reader in readers] == [0, 0, 0]


def test_a_reader_beyond_the_position_rings_no_more(ring: Ring) -> None:
    fast, slow = ring.join(0), ring.join(1)
    count = ring.fill()
    for _ in range(count // 2):
        fast.try_read()
    ring.writer.arm()
    assert read_all(fast) == 0
    assert read_all(slow) == 1


def test_a_reader_that_stands_at_the_position_rings_no_more(ring: Ring) -> None:
    fast, slow = ring.join(0), ring.join(1)
    ring.fill()
    ring.writer.arm()
    while fast.position < ring.wake_at:
        fast.try_read()
    ring.writer.disarm()
    fast.owed = False
    ring.writer.arm()
    assert fast.position == ring.wake_at
    assert read_all(fast) == 0
    assert read_all(slow) == 1


def test_a_released_lease_rings_like_any_read(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill(bytes(1000))
    ring.writer.arm()
    while not reader.owed:
        before = reader.position
        reader.borrow()
        reader.release()
    assert before < ring.wake_at <= reader.position


def test_after_disarming_nobody_rings(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill()
    ring.writer.arm()
    ring.writer.disarm()
    assert ring.wake_at == 0
    assert read_all(reader) == 0


def test_only_the_writer_disarms(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill()
    ring.writer.arm()
    armed = ring.wake_at
    read_all(reader)
    assert ring.wake_at == armed


def test_a_position_beyond_2_to_the_63_is_armed_and_crossed(ring: Ring) -> None:
    ring.restart(2**63)
    reader = ring.join(0)
    ring.fill()
    assert not ring.writer.arm()
    assert read_all(reader) == 1


def test_a_bell_of_the_writer_is_due_once_the_slowest_has_passed(ring: Ring) -> None:
    fast, slow = ring.join(0), ring.join(1)
    ring.fill()
    assert not ring.writer.overdue()
    ring.writer.arm()
    read_all(fast)
    assert not ring.writer.overdue()
    read_all(slow)
    assert ring.writer.overdue()
    ring.writer.disarm()
    assert not ring.writer.overdue()


# -- interrupts ----------------------------------------------------------------------


def test_a_bell_that_was_not_rung_stays_owed_to_the_next_write(ring: Ring) -> None:
    readers = [ring.join(0), ring.join(1)]
    readers[0].arm()
    ring.writer.try_write([b"x"])  # and here a KeyboardInterrupt, before the bell is rung
    readers[1].arm()
    ring.writer.try_write([b"y"])
    assert sorted(ring.writer.owed) == [0, 1]


def test_a_bell_that_was_not_rung_stays_owed_to_the_next_read(ring: Ring) -> None:
    reader = ring.join(0)
    ring.fill(bytes(1000))
    ring.writer.arm()
    while not reader.owed:
        reader.try_read()
    reader.try_read()
    assert reader.owed


def test_an_interrupt_at_a_flag_leaves_the_bell_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lowers(words: memoryview, index: int, value: int) -> bool:
        return words.format == "B" and value == 0

    with Ring() as ring:
        ring.join(2).arm()
        broken = interrupted(ordering.store, lowers)
        monkeypatch.setattr("aioshm.shm.ring_writer.store", broken)
        with pytest.raises(KeyboardInterrupt):
            ring.writer.try_write([b"x"])
        assert ring.writer.owed == [2]
        ring.writer.try_write([b"y"])
        assert set(ring.writer.owed) == {2}
        assert not any(ring.parked)


def test_an_interrupted_write_is_published_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def publishes(words: memoryview, index: int, value: int) -> bool:
        return index == WRITTEN

    with Ring() as ring:
        reader = ring.join(0)
        broken = interrupted(ordering.store_release, publishes)
        monkeypatch.setattr("aioshm.shm.ring_writer.store_release", broken)
        with pytest.raises(KeyboardInterrupt):
            ring.writer.try_write([b"first"])
        assert reader.try_read() is None
        ring.writer.try_write([b"second"])
        got = [bodies(reader.try_read()), bodies(reader.try_read())]
        assert got in ([[b"first"], [b"second"]], [[b"second"], None])


def test_an_interrupted_read_leaves_the_ring_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with Ring() as ring:
        reader = ring.join(0)
        for body in (b"first", b"second", b"third"):
            ring.writer.try_write([body])
        broken = interrupted(ordering.store_release, lambda *_: True)
        monkeypatch.setattr("aioshm.shm.ring_reader.store_release", broken)
        with pytest.raises(KeyboardInterrupt):
            reader.try_read()
        rest = [bodies(reader.try_read()) for _ in range(2)]
        assert rest in ([[b"first"], [b"second"]], [[b"second"], [b"third"]])
