"""Every pairing of the rings carries every message, in order and whole, between two processes."""

from __future__ import annotations

import os
import random
import struct
import time
import zlib

import pytest

from aioshm.shm.layout import OBJECT, RAW, Layout
from aioshm.shm.segment import Segment
from tests.helpers import HANG, Child, Pipe
from tests.rings import MODULES, PAIRINGS, Ring

HEAD = struct.Struct("=QI")
"""The message's number, and the checksum of all that follows."""
NOISE = random.Random(3).randbytes(1 << 16)
PAYLOAD = 6000


def frames_of(number: int) -> list[bytes]:
    """Give what message `number` holds: mostly little, sometimes much, sometimes in two frames."""
    start = number * 2654435761 & 0x7FFF
    body = NOISE[start : start + (start % 150 if number % 61 else start % PAYLOAD // 2)]
    if number % 17:
        return [HEAD.pack(number, zlib.crc32(body)) + body]
    other = NOISE[start // 2 : start // 2 + start % 2900]
    return [HEAD.pack(number, zlib.crc32(other, zlib.crc32(body))) + body, other]


class Patience:
    """Try again, but not for ever."""

    def __init__(self) -> None:
        self.turns, self.since = 0, time.monotonic()

    def again(self, progress: int) -> None:
        """Let others run; raise if nothing happened for long."""
        if progress != self.turns:
            self.turns, self.since = progress, time.monotonic()
        elif time.monotonic() - self.since > HANG:
            raise AssertionError(f"nothing happened for {HANG} s after message {progress}")
        os.sched_yield()


def attach(pid: int, fd: int, nbytes: int, words: int) -> Segment:
    """Map a segment that another process has open."""
    opened = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR)
    return Segment.attach(opened, nbytes, writable=True, words=words)


async def write_all(
    pipe: Pipe, language: str, pid: int, fds: tuple[int, int], layout: Layout, count: int
) -> None:
    """Write so many messages, some of them in place."""
    data = attach(pid, fds[0], layout.data_bytes, layout.records)
    control = attach(pid, fds[1], layout.control_bytes, layout.control_bytes)
    writer = MODULES[language][0].RingWriter(data, control, layout, 0)
    pipe.send(writer.admit(0))
    patience = Patience()
    for number in range(count):
        frames = frames_of(number)
        if number % 7 == 0 and len(frames) == 1:
            while (where := writer.claim(len(frames[0]))) is None:
                patience.again(number)
            data.raw[where] = frames[0]
            writer.commit(len(frames[0]))
        else:
            while not writer.try_write(frames):
                patience.again(number)
    pipe.send("all written")
    pipe.receive_blocking()
    for segment in (data, control):
        segment.close()


@pytest.mark.parametrize("name", PAIRINGS)
@pytest.mark.timeout(36_000)
def test_every_message_comes_through_whole(name: str, request: pytest.FixtureRequest) -> None:
    count = request.config.getoption("--ring-messages")
    writes, _ = name.split("-")
    with Ring(PAIRINGS[name], payload=PAYLOAD, chunks=4) as ring:
        fds = ring.data.fileno(), ring.control.fileno()
        arguments = (writes, os.getpid(), fds, ring.layout, count)
        with Child(write_all, *arguments, loop="asyncio") as child:
            position = child.pipe.receive_blocking()
            reader = ring.reader_class(ring.seen, ring.control, ring.layout, 0, position)
            patience = Patience()
            for number in range(count):
                while (record := reader.try_read()) is None:
                    patience.again(number)
                kind, frames = record
                assert kind == (RAW if number % 7 == 0 and len(frames) == 1 else OBJECT)
                head = memoryview(frames[0])
                check = 0
                for part in (head[HEAD.size :], *frames[1:]):
                    check = zlib.crc32(part, check)
                assert HEAD.unpack_from(head) == (number, check)
                assert reader.number == number + 1
            assert reader.try_read() is None
            assert child.pipe.receive_blocking() == "all written"
            child.send("bye")
            assert child.process.wait(HANG) == 0
