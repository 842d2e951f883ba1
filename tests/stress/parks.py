"""Races between parking and waking: both sides pause at random, 0 to 200 us, and park at once.

Nothing here yields before it parks, so nearly every wait arms its flag, and the other
side's store falls anywhere around the arming. The safety timer looks after 20 s only. So a
wake-up that got lost shows as a wait that long, and as a *rescue* in `stats()` too where the
flag was left standing.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from aioshm import Backoff, Handle, MessageQueue, QueueShutDown
from tests.helpers import HANG
from tests.stress.steady import pause
from tests.stress.wire import Wire
from tests.stress.witness import Witness, consumed

AT_ONCE = Backoff(yield_for=0.0, min_sleep=20.0, max_sleep=20.0)
SMALLEST: dict[str, Any] = {"max_chunk_bytes": 64, "max_chunks": 2, "backoff": AT_ONCE}
"""A ring of six small records."""


@dataclass
class ParkReport:
    """How an end waited.

    Attributes:
        parks, rescues: from its stats.
        longest: seconds of its longest wait.
        wrong: messages that were not the expected ones.
        messages: messages it wrote or read.
    """

    parks: int = 0
    rescues: int = 0
    longest: float = 0.0
    wrong: int = 0
    messages: int = 0


def _maybe_pause(source: random.Random) -> None:
    if source.random() < 0.5:
        pause(source)


async def talk(wire: Wire, witness: Witness, rank: int, begins: bool, laps: int, seed: str) -> None:
    """Answer each message of another process that does the same, `laps` times."""
    source, report, words = random.Random(seed), ParkReport(), witness.words
    async with MessageQueue.create(1, backoff=AT_ONCE, max_chunk_bytes=256) as mine:
        wire.send(("handle", mine.handle))
        handle: Handle = await wire.receive()
        async with MessageQueue.create_from_handle(handle, 0, backoff=AT_ONCE) as theirs:
            await mine.wait_until_ready(HANG)
            await theirs.wait_until_ready(HANG)
            for lap in range(laps):
                _maybe_pause(source)
                if begins:
                    await mine.enqueue(lap)
                began = time.monotonic()
                report.wrong += await theirs.dequeue() != lap
                report.longest = max(report.longest, time.monotonic() - began)
                words[consumed(rank)] = lap + 1
                if not begins:
                    _maybe_pause(source)
                    await mine.enqueue(lap)
            report.messages = laps
            for end in (mine, theirs):
                waits = end.stats().waits
                report.parks += waits.parks
                report.rescues += waits.rescues
            wire.send(("parked", report))
            await wire.receive()  # so that no end is closed while the other still reads


async def pour(wire: Wire, witness: Witness, n_reader: int, count: int, seed: str) -> None:
    """Write into the smallest ring, which is full most of the time."""
    source, report = random.Random(seed), ParkReport()
    async with MessageQueue.create(n_reader, **SMALLEST) as queue:
        wire.send(("handle", queue.handle))
        await queue.wait_until_ready(HANG)
        for number in range(count):
            if source.random() < 0.1:
                pause(source)
            began = time.monotonic()
            await queue.enqueue(number)
            report.longest = max(report.longest, time.monotonic() - began)
        waits = queue.stats().waits
        report.parks, report.rescues, report.messages = waits.parks, waits.rescues, count
    wire.send(("parked", report))


async def drain(wire: Wire, witness: Witness, handle: Handle, rank: int, seed: str) -> None:
    """Read with pauses, until the writer closes."""
    source, report, words = random.Random(seed), ParkReport(), witness.words
    async with MessageQueue.create_from_handle(handle, rank, backoff=AT_ONCE) as queue:
        try:
            while True:
                if source.random() < 0.2:
                    pause(source)
                report.wrong += await queue.dequeue() != report.messages
                report.messages += 1
                words[consumed(rank)] = report.messages
        except QueueShutDown:
            pass
        waits = queue.stats().waits
        report.parks, report.rescues = waits.parks, waits.rescues
    wire.send(("parked", report))
