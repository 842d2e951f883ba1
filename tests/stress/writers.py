"""Writers: one that goes on whatever happens to its readers, one that waits to be killed.

The steady one takes orders, also while it waits for room::

    ("evict", rank)   go on without that reader; says ("evicted", rank)
    ("stop", None)    close; says ("wrote", WriterReport)
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from typing import Any

from aioshm import MessageQueue, QueueFull, ReaderDied, Writer
from tests.helpers import HANG, descriptors
from tests.stress import traffic
from tests.stress.steady import PATIENT, WriterReport, pause
from tests.stress.wire import Wire
from tests.stress.witness import BEGUN, CLOSED, CLOSING, DONE, Witness


class _Deaths(logging.Handler):
    """Report the moment the writer knows of a death, or evicts a reader by itself."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(logging.INFO)
        self._wire = wire

    def emit(self, record: logging.LogRecord) -> None:
        if not isinstance(record.args, tuple):
            return
        if record.msg.startswith("%s: rank %d died"):
            self._wire.send(("died", (record.args[2], time.monotonic())))
        elif "held it back" in record.msg:
            self._wire.send(("evicted", record.args[1]))


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
    async with MessageQueue.create(n_reader, backoff=PATIENT, **options) as queue:
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
                chance = source.random()
                if chance < 0.05:
                    await asyncio.sleep(0.001)
                elif chance < 0.15:
                    pause(source, 0.02)  # some readers die while they knock at a busy loop
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
    queue = MessageQueue.create(n_reader, backoff=PATIENT, **options)
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
