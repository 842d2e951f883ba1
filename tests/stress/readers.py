"""Readers: they take their messages in every way there is, and look each over."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from aioshm import (
    AdmissionRefused,
    Evicted,
    Handle,
    MessageQueue,
    QueueEmpty,
    QueueShutDown,
    Reader,
    WriterDied,
)
from tests.helpers import HANG, descriptors
from tests.stress import traffic
from tests.stress.steady import PATIENT, ReaderReport, pause
from tests.stress.wire import Wire
from tests.stress.witness import Witness, consumed

Taken = tuple[int, str]
"""What `traffic.examine` said of one message."""


async def _dequeue(queue: Reader, source: random.Random) -> Taken:
    return traffic.examine(await queue.dequeue())


async def _nowait(queue: Reader, source: random.Random) -> Taken:
    try:
        return traffic.examine(queue.dequeue_nowait())
    except QueueEmpty:
        return await _dequeue(queue, source)


async def _timeouts(queue: Reader, source: random.Random) -> Taken:
    while True:
        try:
            return traffic.examine(await queue.dequeue(source.random() * 0.003))
        except TimeoutError:
            pass


async def _async_for(queue: Reader, source: random.Random) -> Taken:
    async for message in queue:
        return traffic.examine(message)
    return await _dequeue(queue, source)  # raises what ended the loop


async def _lease(queue: Reader, source: random.Random) -> Taken:
    async with queue.acquire_read() as lease:
        if source.random() < 0.1:
            pause(source)
        # Judged by the caller, so only once the lease was left: leaving it tells whether what
        # was torn was so by an eviction.
        return traffic.examine(lease.load())


async def _slow(queue: Reader, source: random.Random) -> Taken:
    pause(source)
    return await _dequeue(queue, source)


WAYS: dict[str, Callable[[Reader, random.Random], Awaitable[Taken]]] = {
    "dequeue": _dequeue,
    "nowait": _nowait,
    "timeouts": _timeouts,
    "async for": _async_for,
    "lease": _lease,
    "slow": _slow,
}
"""How a reader may take its next message."""


async def take_all(
    queue: Reader, report: ReaderReport, witness: Witness, ways: tuple[str, ...], seed: str
) -> None:
    """Take every message until an error ends the queue, and look each over."""
    source, words, word = random.Random(seed), witness.words, consumed(report.rank)
    takes = [WAYS[way] for way in ways]
    last = time.monotonic()
    try:
        while True:
            number, wrong = await takes[int(source.random() * len(takes))](queue, source)
            now = time.monotonic()
            report.longest = max(report.longest, now - last)
            last = now
            if wrong:
                report.fail(wrong)
            if number != report.following:
                report.fail(f"message {number} came where {report.following} was expected")
            report.following = number + 1
            words[word] = number + 1
    except (QueueShutDown, WriterDied, Evicted) as error:
        report.when = time.monotonic()
        report.outcome = type(error).__name__
    waits = queue.stats().waits
    report.rescues, report.parks = waits.rescues, waits.parks


async def read(
    wire: Wire, witness: Witness, handle: Handle, rank: int, ways: tuple[str, ...], seed: str
) -> None:
    """Take a rank and every message until the end; report it as ``("read", ReaderReport)``."""
    async with MessageQueue.create_from_handle(handle, rank, backoff=PATIENT) as queue:
        await queue.wait_until_ready(HANG)
        report = ReaderReport(rank, first=queue.stats().messages)
        report.following = report.first
        wire.send(("joined", report.first))
        await take_all(queue, report, witness, ways, seed)
    wire.send(("read", report))


async def attend(wire: Wire, witness: Witness, rank: int, seed: str) -> None:
    """Read one queue after the other, whose handles come by wire, until told None."""
    lap = 0
    while (handle := await wire.receive()) is not None:
        lap += 1
        report = ReaderReport(rank)
        async with MessageQueue.create_from_handle(handle, rank, backoff=PATIENT) as queue:
            try:
                await queue.wait_until_ready(HANG)
            except (WriterDied, QueueShutDown) as error:
                report.outcome, report.when = type(error).__name__, time.monotonic()
            else:
                await take_all(queue, report, witness, tuple(WAYS), f"{seed} {lap}")
        wire.send(("read", report))


async def rejoin(
    wire: Wire, witness: Witness, handle: Handle, rank: int, laps: int, seed: str
) -> None:
    """Take a rank, read a few messages, leave, and again; says ``("rejoined", …)``.

    Two processes may do so for the same rank: who comes second is refused and tries again.
    """
    source = random.Random(seed)
    report, refused, evicted, worst = ReaderReport(rank), 0, 0, 0.0
    lap = 0
    while lap < laps:
        began = time.monotonic()
        async with MessageQueue.create_from_handle(handle, rank, backoff=PATIENT) as queue:
            try:
                await queue.wait_until_ready(HANG)
            except AdmissionRefused as error:
                if "is taken by" not in str(error):
                    raise
                refused += 1
                await asyncio.sleep(source.random() * 0.003)
                continue
            worst = max(worst, time.monotonic() - began)
            lap += 1
            witness.words[consumed(rank)] += 1
            report.following = queue.stats().messages
            try:
                for _ in range(source.randrange(12)):
                    way = source.choice(list(WAYS.values()))
                    number, wrong = await way(queue, source)
                    if wrong:
                        report.fail(wrong)
                    if number != report.following:
                        report.fail(f"lap {lap}: message {number} for {report.following}")
                    report.following = number + 1
            except Evicted:
                evicted += 1
            report.rescues += queue.stats().waits.rescues
    report.longest = worst
    wire.send(("rejoined", (report, refused, evicted, len(descriptors()))))
