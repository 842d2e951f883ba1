"""Whatever somebody scribbles over both segments, a ring at work gives messages or typed errors."""

from __future__ import annotations

import random

import pytest

from aioshm import Evicted, SegmentError
from aioshm.shm.layout import MARKER, OBJECT, OVERFLOW, PADDING, RAW
from tests.rings import PAIRINGS, Ring, bodies

TELLING = [
    0, 1, 31, 63, 64, 65, 1 << 4 | OBJECT, 1 << 4 | RAW, 1 << 4 | PADDING, 2 << 4 | OBJECT,
    1 << 4 | OVERFLOW, MARKER.size, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 64, 2**64 - 1,
]  # fmt: skip


class Scribbler:
    """Somebody who can write to both segments, and does."""

    def __init__(self, ring: Ring, source: random.Random) -> None:
        self.ring, self.source = ring, source

    def place(self, control: bool) -> int:
        """Choose where, mostly where something is read."""
        layout, pick = self.ring.layout, self.source.randrange
        shared = 8 * layout.read(2) if control else layout.records
        match pick(4):
            case 0:
                return pick(shared)
            case 1:
                return pick(len(self.ring.control.raw if control else self.ring.data.raw) - 8)
            case _ if control:
                return int(layout.parked.start) + pick(layout.slots)
            case _:
                return layout.records + pick(layout.capacity // 64) * 64 + pick(48)

    def scribble(self) -> None:
        """Change a bit, a byte, half a word or a word."""
        control, pick = not self.source.randrange(3), self.source.randrange
        raw = (self.ring.control if control else self.ring.data).raw
        at = self.place(control)
        value = self.source.choice([*TELLING, self.ring.capacity, pick(2**64)])
        match pick(4):
            case 0:
                raw[at] ^= 1 << pick(8)
            case 1:
                raw[at] = value & 255
            case 2:
                raw[at & -4 : (at & -4) + 4] = (value & (2**32 - 1)).to_bytes(4, "little")
            case _:
                raw[at & -8 : (at & -8) + 8] = value.to_bytes(8, "little")


@pytest.mark.parametrize("name", PAIRINGS)
@pytest.mark.timeout(36_000)
def test_no_content_of_the_memory_does_harm(name: str, request: pytest.FixtureRequest) -> None:
    source, got, refused = random.Random(7), 0, 0
    with Ring(PAIRINGS[name], payload=3000) as ring:
        scribbler = Scribbler(ring, source)
        reader = ring.join(0)
        for number in range(request.config.getoption("--ring-mutations")):
            if number % 8 == 0:
                ring.data.raw[ring.layout.records :] = bytes(len(ring.data.raw) - 4096)
                ring.restart(64 * source.randrange(1000))
                reader = ring.join(0)
                ring.writer.disarm()
            scribbler.scribble()
            try:
                count = source.randrange(1, 4)
                while source.randrange(4) and ring.writer.try_write([b"m" * 77] * count):
                    pass
                if not ring.writer.try_write([b"x" * source.randrange(3000)]):
                    ring.writer.arm()
                    ring.writer.overdue()
                    ring.writer.disarm()
            except SegmentError:
                refused += 1
            scribbler.scribble()
            try:
                reader.arm()
                reader.overdue()
                reader.disarm()
                found = reader.borrow()
                if found is not None and source.randrange(2):
                    assert all(part.stop <= len(ring.seen.raw) for part in found[1])
                    reader.release()
                while (record := reader.try_read()) is not None:
                    assert sum(map(len, bodies(record) or [])) <= ring.capacity
                    got += 1
                    if record[0] == OVERFLOW:
                        reader.release()
            except (SegmentError, Evicted):
                refused += 1
    assert got
    assert refused
