"""A ring holds on to nothing: not to what is written, not to what was read, not to its memory."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from aioshm import Evicted, MessageTooLarge, SegmentError
from aioshm.shm.layout import SMALLEST_FRAME, Layout
from aioshm.shm.ring import RingReader, RingWriter
from tests.helpers import HANG, mappings
from tests.rings import MODULES, PAIRINGS, Ring, bodies

MIB = 1 << 20


@pytest.fixture(params=PAIRINGS)
def large(request: pytest.FixtureRequest) -> Iterator[Ring]:
    """Give a ring whose messages have room for several frames."""
    with Ring(PAIRINGS[request.param], payload=3 * SMALLEST_FRAME, chunks=2) as made:
        yield made


def calls_of(writer: RingWriter, reader: RingReader) -> list[Callable[[], Any]]:
    """Give every call that touches the memory."""
    return [
        lambda: writer.try_write([b"x"]),
        lambda: writer.claim(1),
        writer.has_room_for_marker,
        lambda: writer.write_marker(1, 2),
        writer.cursors,
        writer.holding_back,
        writer.disarm,
        writer.overdue,
        lambda: writer.is_read(0),
        lambda: writer.admit(1),
        lambda: writer.forget(0),
        lambda: writer.evict(0),
        writer.close,
        reader.try_read,
        reader.borrow,
        reader.check,
        reader.arm,
        reader.disarm,
        reader.overdue,
        reader.repeat,
        reader.is_closed,
    ]


def turn(ring: Ring, reader: RingReader, frames: Sequence[bytes], number: int) -> None:
    """Do all that a ring can do, failures included."""
    writer = ring.writer
    assert writer.try_write(frames)
    assert bodies(reader.try_read()) == frames
    assert reader.try_read() is None
    assert writer.try_write(tuple(frames[:1]))
    assert reader.borrow() is not None
    reader.release()
    where = writer.claim(100)
    assert where is not None
    writer.commit(number % 100)
    reader.arm()
    writer.try_write([memoryview(frames[1]), bytearray(b"abc")])
    writer.owed.clear()
    assert writer.cursors().keys() == {0}
    while reader.try_read() is not None:
        pass
    for refused in ([b"x" * 4 * SMALLEST_FRAME], [b"x"] * 1000):
        with contextlib.suppress(MessageTooLarge):
            writer.try_write(refused)
    for wrong in ([b"x", 5], [], 7):
        with contextlib.suppress(TypeError, IndexError):
            writer.try_write(wrong)  # type: ignore[arg-type]
    if number % 50 == 0:
        writer.try_write([b"x"])
        fields = ring.header(reader.position)
        ring.scribble_header(reader.position, [0] * 5)
        with contextlib.suppress(SegmentError):
            reader.try_read()
        ring.scribble_header(reader.position, fields)
        assert reader.try_read() is not None


def test_references_and_memory_stay_flat_over_a_long_loop(
    large: Ring, request: pytest.FixtureRequest
) -> None:
    reader = large.join(0)
    frames = [b"h" * 200, b"f" * SMALLEST_FRAME]
    turns = request.config.getoption("--ring-turns") // 10

    def go() -> None:
        for number in range(turns):
            turn(large, reader, frames, number)
        gc.collect()

    go()
    blocks, references = sys.getallocatedblocks(), [sys.getrefcount(frame) for frame in frames]
    go()
    assert [sys.getrefcount(frame) for frame in frames] == references
    assert sys.getallocatedblocks() - blocks < turns // 20


def test_an_evicted_readers_error_holds_nothing(large: Ring) -> None:
    reader = large.join(0)
    large.writer.try_write([b"x" * 1000])
    large.writer.evict(0)

    def go() -> None:
        for _ in range(500):
            with contextlib.suppress(Evicted):
                reader.try_read()
        gc.collect()

    go()
    blocks = sys.getallocatedblocks()
    go()
    assert sys.getallocatedblocks() - blocks < 100


def test_closing_gives_the_memory_back_while_the_rings_live() -> None:
    for pairing in PAIRINGS.values():
        before = mappings()
        with Ring(pairing) as ring:
            writer, reader = ring.writer, ring.join(0)
            assert len(mappings()) == len(before) + 3
        assert mappings() == before
        for call in calls_of(writer, reader):
            with pytest.raises(ValueError, match=r"given back|released|closed"):
                call()
        assert (writer.position, reader.position, reader.owed) == (0, 0, False)


def test_a_ring_that_is_forgotten_leaves_the_memory_to_the_segment() -> None:
    for pairing in PAIRINGS.values():
        with Ring(pairing) as ring:
            ring.restart(64)
            reader = ring.join(0)
            gc.collect()
            ring.writer.try_write([b"x"])
            assert bodies(reader.try_read()) == [b"x"]


# -- what only the C ring checks or does -------------------------------------------------


def c_ring(payload: int = 1000) -> Iterator[Ring]:
    """Give a ring in C, if it was built here."""
    if "c" in MODULES:
        with Ring(PAIRINGS["c-c"], payload=payload, chunks=2) as made:
            yield made


@pytest.mark.parametrize(
    "layout",
    [
        Layout(1000, 1 << 30, 2, 8),
        Layout(1000, 1088, 1, 8),
        Layout(1000, 1088, 1 << 40, 8),
        Layout(1000, 1000, 2, 8),
        Layout(1 << 60, 1088, 2, 8),
        Layout(1000, 1088, 2, 1 << 12),
        Layout(1000, 1088, 2, 1 << 50),
        Layout(1000, 1088, 2, 0),
        Layout(0, 0, 2, 8),
    ],
    ids=repr,
)
def test_a_layout_that_leads_out_of_the_segments_is_refused(layout: Layout) -> None:
    for ring in c_ring():
        with pytest.raises(SegmentError, match="does not fit segments of"):
            ring.writer_class(ring.data, ring.control, layout)
        with pytest.raises(SegmentError, match="does not fit segments of"):
            ring.reader_class(ring.seen, ring.control, layout, 0, 0)


@pytest.mark.parametrize(("slot", "position"), [(8, 0), (2**63, 0), (0, 1), (0, 2**64 - 1)])
def test_a_slot_or_position_that_cannot_be_is_refused(slot: int, position: int) -> None:
    for ring in c_ring():
        with pytest.raises(SegmentError, match="which cannot be"):
            ring.reader_class(ring.seen, ring.control, ring.layout, slot, position)


def test_a_slot_that_is_not_there_is_refused() -> None:
    for ring in c_ring():
        for call in (ring.writer.admit, ring.writer.forget, ring.writer.evict):
            with pytest.raises(IndexError, match="slot 8 where there are 8"):
                call(8)


def test_nothing_is_committed_that_was_not_claimed() -> None:
    for ring in c_ring():
        with pytest.raises(ValueError, match="no room for so many is claimed"):
            ring.writer.commit(0)
        ring.writer.claim(10)
        with pytest.raises(ValueError, match="no room for so many is claimed"):
            ring.writer.commit(1000)
        ring.writer.commit(10)
        with pytest.raises(ValueError, match="no room for so many is claimed"):
            ring.writer.commit(10)


def test_nothing_is_released_that_was_not_borrowed() -> None:
    for ring in c_ring():
        reader = ring.join(0)
        with pytest.raises(RuntimeError, match="no message is borrowed"):
            reader.release()


def test_a_claim_beyond_any_number_is_too_large() -> None:
    for ring in c_ring():
        with pytest.raises(MessageTooLarge) as caught:
            ring.writer.claim(10**30)
        assert caught.value.size == 10**30
        with pytest.raises(ValueError, match="0 or more"):
            ring.writer.claim(-1)


class Meddler(Sequence[bytes]):
    """Frames that write a message of their own while they are looked at."""

    def __init__(self, writer: RingWriter) -> None:
        self.writer = writer

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        if index:
            raise IndexError
        self.writer.try_write([b"inner"])
        return b"outer"


def test_frames_that_write_while_they_are_taken_spoil_nothing() -> None:
    for ring in c_ring():
        reader = ring.join(0)
        assert ring.writer.try_write(Meddler(ring.writer))
        assert bodies(reader.try_read()) == [b"inner"]
        assert bodies(reader.try_read()) == [b"outer"]


def beside(call: Callable[..., Any], *arguments: Any) -> tuple[threading.Thread, list[Any]]:
    """Begin a call in another thread; give the thread, and where the result will be."""
    begun = threading.Event()
    results: list[Any] = []

    def run() -> None:
        begun.set()
        try:
            results.append(call(*arguments))
        except ValueError as error:
            results.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait(HANG)
    return thread, results


def is_refused_beside(thread: threading.Thread, call: Callable[[], object]) -> bool:
    """Make a call again and again while a thread copies; tell whether it was refused."""
    refused = False
    while thread.is_alive():
        try:
            call()
        except RuntimeError as error:
            refused = "in the middle of a call" in str(error)
    thread.join()
    return refused


def test_a_large_copy_lets_other_threads_run_but_not_into_the_ring() -> None:
    body = bytes(range(256)) * (MIB // 8)
    for ring in c_ring(payload=32 * MIB):
        reader = ring.join(0)
        writes = reads = 0
        for _ in range(200):
            thread, written = beside(ring.writer.try_write, [body])
            writes += is_refused_beside(thread, ring.writer.overdue)
            assert written == [True]
            thread, read = beside(reader.try_read)
            reads += is_refused_beside(thread, reader.is_closed)
            assert bodies(read[0]) == [body]
            if writes and reads:
                break
        assert writes
        assert reads


def close_beside_a_copy() -> str | bool:
    """Close all segments while a message is copied; give what came of the copy."""
    for ring in c_ring(payload=32 * MIB):
        thread, written = beside(ring.writer.try_write, [bytes(16 * MIB)])
        for segment in (ring.data, ring.control, ring.seen):
            segment.close()
        thread.join()
        came: str | bool = written[0]
        return came
    return True


def test_a_segment_that_is_closed_in_the_middle_of_a_copy_stays_until_its_end() -> None:
    before = mappings()
    for _ in range(10):
        assert close_beside_a_copy() in (
            True,
            "the ring's memory was given back: its queue is closed",
        )
        gc.collect()
        assert mappings() == before
