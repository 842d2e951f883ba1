"""Steady traffic: a writer that goes on whatever happens to its readers, and such readers.

Both report what they saw when they end. The writer takes orders, also while it waits::

    ("evict", rank)   go on without that reader; says ("evicted", rank)
    ("stop", None)    close; says ("wrote", WriterReport)
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aioshm import (
    AdmissionRefused,
    Evicted,
    Handle,
    MessageQueue,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    Reader,
    ReaderDied,
    Writer,
    WriterDied,
)
from tests.helpers import HANG, descriptors
from tests.stress import traffic
from tests.stress.wire import Wire
from tests.stress.witness import BEGUN, CLOSED, CLOSING, DONE, Witness, consumed


@dataclass
class WriterReport:
    """What a writer did, and what it held at its first message and at its last."""

    messages: int
    rescues: int
    parks: int
    descriptors: tuple[int, int]


@dataclass
class ReaderReport:
    """What a reader saw.

    Attributes:
        rank: its rank.
        first, following: number of its first message, and of the one it waits for.
        failures: messages that were wrong; `shown` says how, for the first ones.
        outcome: name of the error that ended it.
        when: when it came, by time.monotonic().
        longest: seconds of its longest wait for one message.
        rescues, parks: its stats.
    """

    rank: int
    first: int = 0
    following: int = 0
    failures: int = 0
    shown: list[str] = field(default_factory=list)
    outcome: str = ""
    when: float = 0.0
    longest: float = 0.0
    rescues: int = 0
    parks: int = 0

    def fail(self, what: str) -> None:
        """Count a wrong message."""
        self.failures += 1
        if len(self.shown) < 3:
            self.shown.append(f"rank {self.rank}: {what}")


def pause(source: random.Random, most: float = 200e-6) -> None:
    """Spend up to `most` seconds, finer than any loop can sleep."""
    until = time.perf_counter() + source.random() * most
    while time.perf_counter() < until:
        pass


class _Deaths(logging.Handler):
    """Report the moment the writer knows of a death, or has evicted a slow reader."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(logging.INFO)
        self._wire = wire

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("%s: rank %d died") and isinstance(record.args, tuple):
            self._wire.send(("died", (record.args[2], time.monotonic())))


# -- the writer ------------------------------------------------------------------------------


async def _send(queue: Writer, number: int, draw: traffic.Source, largest: int) -> None:
    size = draw.size()
    form, payload = draw.form(size), draw.payload(size)
    if form == "lease":
        message = traffic.packed(number, payload)
        async with queue.acquire_write(min(len(message) + 64, largest)) as lease:
            lease.buffer[: len(message)] = message
            lease.nbytes = len(message)
        return
    make = traffic.as_dict if form == "dict" else traffic.as_bytes
    obj = make(number, payload, largest)
    if number % 7 == 0:
        try:
            queue.enqueue_nowait(obj)
            return
        except QueueFull:
            pass
    await queue.enqueue(obj)


async def write(
    wire: Wire,
    witness: Witness,
    n_reader: int,
    options: dict[str, Any],
    seed: str,
    count: int | None = None,
    paced: bool = True,
    evict_randomly: bool = False,
) -> None:
    """Write until told to stop, or `count` messages.

    Args:
        n_reader: how many readers there are.
        options: for MessageQueue.create.
        seed: of the traffic and the pace.
        count: messages to write; None goes on until ordered to stop.
        paced: pause at random, from none to a sleep, so that readers park too.
        evict_randomly: evict rank 1 now and then, if somebody has it.
    """
    source, words = random.Random(seed), witness.words
    handler, logger = _Deaths(wire), logging.getLogger("aioshm")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    async with MessageQueue.create(n_reader, **options) as queue:
        largest = options["max_chunk_bytes"]
        draw = traffic.Source(seed, largest)
        wire.send(("handle", queue.handle))
        await queue.wait_until_ready(HANG)
        stop = asyncio.Event()
        obeying = asyncio.create_task(_obey(queue, wire, stop))
        before, number = len(descriptors()), 0
        while number != count and not stop.is_set():
            words[BEGUN] = number + 1
            try:
                await _send(queue, number, draw, largest)
            except ReaderDied as error:
                await _decide(queue, error.rank, source)
                continue
            number += 1
            words[DONE] = number
            if paced and source.random() < 0.03:
                if source.random() < 0.05:
                    await asyncio.sleep(0.001)
                else:
                    pause(source)
            if evict_randomly and source.random() < 0.002 and queue.stats().readers[1:]:
                queue.evict(1)
        obeying.cancel()
        waits = queue.stats().waits
        held = (before, len(descriptors()))
    wire.send(("wrote", WriterReport(number, waits.rescues, waits.parks, held)))


async def _obey(queue: Writer, wire: Wire, stop: asyncio.Event) -> None:
    while True:
        order, rank = await wire.receive(math.inf)
        if order == "stop":
            stop.set()
        else:
            queue.evict(rank)
            wire.send(("evicted", rank))


async def _decide(queue: Writer, rank: int, source: random.Random) -> None:
    """Evict a dead rank, or wait until it is taken again."""
    if source.random() < 0.5:
        queue.evict(rank)
        return
    async with asyncio.timeout(HANG):
        while rank in queue.stats().dead:
            await asyncio.sleep(0.001)


async def write_until_killed(
    wire: Wire, witness: Witness, n_reader: int, options: dict[str, Any], seed: str
) -> None:
    """Write until SIGKILL comes; or close at a random moment, and wait for it."""
    source, words = random.Random(seed), witness.words
    closes_at = source.randrange(300) if source.random() < 0.25 else None
    paced = source.random() < 0.5
    queue = MessageQueue.create(n_reader, **options)
    largest = options["max_chunk_bytes"]
    draw = traffic.Source(seed, largest)
    wire.send(("handle", queue.handle))
    await queue.wait_until_ready(HANG)
    number = 0
    while number != closes_at:
        words[BEGUN] = number + 1
        await _send(queue, number, draw, largest)
        number += 1
        words[DONE] = number
        if paced and source.random() < 0.2:
            pause(source)
            await asyncio.sleep(0)
    words[CLOSING] = 1
    await queue.aclose()
    words[CLOSED] = 1
    await asyncio.sleep(HANG)


# -- readers ---------------------------------------------------------------------------------

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
    async with MessageQueue.create_from_handle(handle, rank) as queue:
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
        async with MessageQueue.create_from_handle(handle, rank) as queue:
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
        async with MessageQueue.create_from_handle(handle, rank) as queue:
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
