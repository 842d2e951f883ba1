"""Queues by the hundred: one process creates and closes them, another attaches and leaves.

Either side may be struck by cancels, in `wait_until_ready` or in `aclose`; and what each
process holds in descriptors and memory must be the same after many cycles as after few.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aioshm import MessageQueue, Reader, Writer
from aioshm import QueueShutDown as ShutDown
from tests.helpers import HANG, descriptors, mappings
from tests.stress.storm import Storm
from tests.stress.wire import Wire
from tests.stress.witness import Witness, consumed

OPTIONS: dict[str, Any] = {"max_chunk_bytes": 65536, "max_chunks": 2}
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class CycleReport:
    """What one side did and held.

    Attributes:
        laps: cycles.
        cancels: those that hit.
        wrong: broken promises.
        longest: seconds of the longest cycle.
        descriptors: counts after a quarter of the laps, and at the end.
        rss: resident bytes, likewise; segments included.
        mapped: segments that are still mapped at the end.
    """

    laps: int = 0
    cancels: int = 0
    wrong: list[str] = field(default_factory=list)
    longest: float = 0.0
    descriptors: list[int] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    mapped: int = 0

    def sample(self) -> None:
        """Note what the process holds now."""
        gc.collect()
        self.descriptors.append(len(descriptors()))
        self.rss.append(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE)
        self.mapped = len(mappings())


async def _get_ready(end: Writer | Reader, storm: Storm) -> None:
    ready = False

    async def once() -> None:
        nonlocal ready
        await end.wait_until_ready(HANG)
        ready = True

    while not ready:
        await storm.strike(once)


async def _close(end: Writer | Reader, storm: Storm, report: CycleReport) -> None:
    done = False

    async def once() -> None:
        nonlocal done
        await end.aclose()
        done = True

    while not done:
        await storm.strike(once)
        if end.closed != done:
            report.wrong.append(f"aclose was cancelled: {not done}, closed: {end.closed}")


def _storms(call: str, goal: int, seed: str) -> tuple[Storm, Storm]:
    """The storms over wait_until_ready and over aclose."""
    return (
        Storm(seed, goal if call == "wait_until_ready" else 0),
        Storm(seed, goal if call == "aclose" else 0),
    )


async def host(wire: Wire, witness: Witness, call: str, laps: int, goal: int, seed: str) -> None:
    """Create and close `laps` queues, and more until the storm is over."""
    report, (joining, leaving) = CycleReport(), _storms(call, goal, seed)
    words = witness.words
    while report.laps < laps or not (joining.over and leaving.over):
        began = time.monotonic()
        queue = MessageQueue.create(1, **OPTIONS)
        wire.send(("handle", queue.handle))
        await _get_ready(queue, joining)
        await queue.enqueue((report.laps, bytes(60000)))
        await _close(queue, leaving, report)
        # The guest may not have left yet; each lap is its own.
        if (answer := await wire.receive()) != report.laps:
            report.wrong.append(f"lap {report.laps}: the guest read {answer}")
        report.laps += 1
        words[consumed(0)] = report.laps
        report.longest = max(report.longest, time.monotonic() - began)
        if report.laps == max(1, laps // 4):
            report.sample()
    wire.send(("handle", None))
    report.sample()
    report.cancels = joining.cancels + leaving.cancels
    wire.send(("cycled", report))


async def guest(wire: Wire, witness: Witness, call: str, laps: int, goal: int, seed: str) -> None:
    """Attach to one queue after the other, read its message and its end, and leave."""
    report, (joining, leaving) = CycleReport(), _storms(call, goal, seed)
    source = random.Random(seed)
    while (handle := await wire.receive()) is not None:
        queue = MessageQueue.create_from_handle(handle, 0)
        if call == "wait_until_ready":
            await asyncio.sleep(source.random() * 0.002)  # let the host's calls wait a bit
        await _get_ready(queue, joining)
        number, _ = await queue.dequeue(HANG)
        try:
            extra = await queue.dequeue(HANG)
            report.wrong.append(f"lap {number}: {extra!r:.40} came after the last message")
        except ShutDown:
            pass
        await _close(queue, leaving, report)
        report.laps += 1
        wire.send(("read", number))
        if report.laps == max(1, laps // 4):
            report.sample()
    report.sample()
    report.cancels = joining.cancels + leaving.cancels
    wire.send(("cycled", report))


async def alone(wire: Wire, witness: Witness, laps: int) -> None:
    """Create, attach and close both ends in one process."""
    report, words = CycleReport(), witness.words
    for lap in range(laps):
        began = time.monotonic()
        async with MessageQueue.create(1, **OPTIONS) as queue:
            async with MessageQueue.create_from_handle(queue.handle, 0) as reader:
                await queue.wait_until_ready(HANG)
                await queue.enqueue((lap, bytes(60000)))
                number, _ = await reader.dequeue(HANG)
                if number != lap:
                    report.wrong.append(f"lap {lap}: {number} was read")
        report.longest = max(report.longest, time.monotonic() - began)
        words[consumed(0)] = report.laps = lap + 1
        if report.laps == max(1, laps // 4):
            report.sample()
    report.sample()
    wire.send(("cycled", report))
