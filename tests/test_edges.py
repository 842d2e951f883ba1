"""Where modules meet their edges: what looks like something else, and what comes too late."""

from __future__ import annotations

import os

import pytest

from aioshm import AdmissionRefused, Backoff, QueueShutDown, SegmentError
from aioshm.links import hello
from aioshm.links.connection import Connection
from aioshm.shm.layout import OBJECT
from tests.lines import Line, end
from tests.links import FakeGuest, FakeHost
from tests.rings import Ring


def test_no_refusal_of_any_length_passes_for_a_welcome() -> None:
    for length in range(200):
        assert hello.unpack_welcome(hello.pack_refusal("x" * length)) is None


async def test_a_refusal_of_72_letters_keeps_its_reason() -> None:
    class Host(FakeHost):
        def admit(self, connection: Connection, rank: int) -> tuple[hello.Welcome, tuple[int, ...]]:
            raise AdmissionRefused("r" * 72)

    with Host() as host, FakeGuest(host.server.path) as guest:
        assert str(await guest.start().answer()) == "r" * 72


def test_a_table_that_leads_out_of_the_segment_is_an_error() -> None:
    with Ring() as ring:
        reader = ring.join(0)
        ring.writer.try_write([b"hello"])
        ring.data.raw[ring.layout.records :] = bytes(ring.layout.data_bytes - ring.layout.records)
        ring.scribble_header(0, [0, 2**32 - 1, 2**28 - 1 << 4 | OBJECT, 0, 0])
        with pytest.raises(SegmentError):
            reader.try_read()


async def test_the_descriptors_of_a_welcome_reach_no_program_that_is_started() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        await guest.start().answer()
        assert not any(os.get_inheritable(fd) for fd in guest.fds)


async def test_a_bell_that_rings_within_the_last_turn_is_no_rescue() -> None:
    line = Line(Backoff(yield_for=0.0, min_sleep=5e-3))
    waiting = line.task()
    await line.until_parked()
    line.messages.append(1)  # the other side has stored, and rings a moment later
    line.parking.due = True
    line.parking.overdue_look = line.bell.ring
    assert await waiting == 1
    assert line.waiter.rescues == 0
    end(line)


async def test_closing_before_the_start_tells_who_waits_too() -> None:
    with FakeHost(start=False) as host, FakeGuest(host.server.path) as guest:
        guest.start()
        host.server.close(goodbye=True)
        assert isinstance(await guest.answer(), QueueShutDown)


def test_a_size_that_does_not_fit_the_frames_is_an_error() -> None:
    with Ring() as ring:
        reader = ring.join(0)
        for number in range(4):
            ring.writer.try_write([b"%d" % number])
        fields = ring.header(0)
        fields[1] = 3  # swallows the two messages behind it
        ring.scribble_header(0, fields)
        with pytest.raises(SegmentError):
            reader.try_read()


def test_a_length_that_does_not_fit_the_size_is_an_error() -> None:
    with Ring() as ring:
        reader = ring.join(0)
        ring.writer.try_write([b"x" * 500])
        fields = ring.header(0)
        fields[4] = 100
        ring.scribble_header(0, fields)
        with pytest.raises(SegmentError):
            reader.try_read()


def test_an_interrupt_behind_the_crossing_store_leaves_the_bell_owed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Ring() as ring:
        reader = ring.join(0)
        ring.fill()
        ring.writer.arm()
        while reader.position + 64 < ring.wake_at:
            reader.try_read()

        def interrupt() -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr("aioshm.shm.ring_reader.fence", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reader.try_read()
        assert ring.cursor(0) >= ring.wake_at  # its store crossed
        while reader.try_read() is not None:
            pass
        assert reader.owed
