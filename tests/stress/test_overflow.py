"""Messages of all sizes to four readers, ring and overflow mixed: exact order, exact bytes.

``--stress-scale 25`` makes it 10,000 messages and at most 8 GiB.
"""

from __future__ import annotations

import asyncio
import math
import random
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from aioshm import Handle, MessageQueue, QueueShutDown
from aioshm.links.flow import PIECE
from tests.helpers import HANG, Child, Pipe

CHUNK = 1 << 16
LARGEST = 64 << 20
READERS = 4
PATIENCE = 20 * HANG
BOUNDARIES = [
    max(0, size + around)
    for size in (0, 8192, CHUNK - 100, CHUNK, PIECE, 2 * PIECE, 8 * PIECE, LARGEST)
    for around in (-1, 0, 1)
]


def sizes(scale: float, seed: int) -> Iterator[int]:
    """Sizes for 400 messages: a fifth log-uniform up to 64 MiB, the others small."""
    source = random.Random(seed)
    count, budget = math.ceil(400 * scale), int(scale * (8 << 30) / 25)
    for number in range(count):
        kind = number % 5
        if kind == 0:
            size = int(math.exp(source.uniform(0, math.log(LARGEST + 1)))) - 1
        elif kind == 1 and number % 25 == 1:
            size = BOUNDARIES[number // 25 % len(BOUNDARIES)]
        else:
            size = source.randrange(200)
        size = min(size, budget)
        budget -= size
        yield size


def make(number: int, size: int, pool: bytes) -> tuple[int, int, Any]:
    """A message: its number, a checksum, and bytes, in or out of the pickle's stream."""
    start = number * 7919 % (len(pool) - size)
    payload = pool[start : start + size]
    checksum = zlib.crc32(payload, number)
    return number, checksum, payload if number % 2 else np.frombuffer(payload, np.uint8)


async def patiently(
    source: random.Random | None, call: Callable[[float | None], Awaitable[Any]]
) -> Any:
    """Make a call; with a source of chance, with timeouts and cancels until it succeeds."""
    while True:
        if source is None:
            return await call(PATIENCE)
        seconds = source.expovariate(100)
        try:
            if source.random() < 0.5:
                return await call(seconds)
            async with asyncio.timeout(seconds):
                return await call(None)
        except TimeoutError:
            pass


async def read(pipe: Pipe, handle: Handle, rank: int, chance: bool) -> None:
    """Verify every message; report how many there were, and how many were wrong."""
    source = random.Random(rank) if chance else None
    expected = wrong = 0
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        try:
            while True:
                number, checksum, payload = await patiently(source, queue.dequeue)
                wrong += number != expected or zlib.crc32(payload, number) != checksum
                expected += 1
        except QueueShutDown:
            pipe.send((expected, wrong, queue.stats().waits.rescues))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chance", [False, True], ids=["plain", "cancels"])
async def test_sizes_from_0_to_64_mib_reach_four_readers(
    request: pytest.FixtureRequest, chance: bool
) -> None:
    scale = float(request.config.getoption("--stress-scale"))
    pool = random.Random(1).randbytes(1 << 20) * 66
    source = random.Random(99) if chance else None
    queue = MessageQueue.create(READERS, max_chunk_bytes=CHUNK, max_chunks=2)
    async with queue:
        children = [Child(read, queue.handle, rank, chance) for rank in range(READERS)]
        try:
            await queue.wait_until_ready(HANG)
            count = 0
            for size in sizes(scale, seed=5):
                message = make(count, size, pool)

                async def enqueue(timeout: float | None, message: Any = message) -> None:
                    await queue.enqueue(message, timeout)

                await patiently(source, enqueue)
                count += 1
            await queue.aclose(timeout=PATIENCE)
            stats = queue.stats()
            assert stats.messages == count >= 400 * scale
            assert (stats.overflow.waiting, stats.overflow.breaches) == (0, 0)
            assert stats.overflow.messages > count / 25
            assert stats.waits.rescues == 0
            for child in children:
                assert await child.receive(PATIENCE) == (count, 0, 0)
                await child.join()
        finally:
            for child in children:
                child.__exit__(None, None, None)
