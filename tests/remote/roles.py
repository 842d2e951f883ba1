"""What the processes of a test do, and how it follows them from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from aioshm import Handle, MessageQueue, Reader
from tests.helpers import HANG, Pipe
from tests.stress.traffic import examine, packed
from tests.stress.witness import DONE, Witness, consumed

MIB = 1 << 20


def shared(witness: Witness) -> str:
    """Give the path by which another process finds the witness."""
    return f"/proc/{os.getpid()}/fd/{witness.fd}"


@contextlib.contextmanager
def words_at(path: str) -> Iterator[memoryview]:
    """Map the witness of the test."""
    it = Witness(os.open(path, os.O_RDWR))
    try:
        yield it.words
    finally:
        it.close()


async def write(pipe: Pipe, path: str, options: dict[str, Any], sizes: list[int]) -> None:
    """Write messages of these sizes as fast as they are taken, and close."""
    pool = random.Random(len(sizes)).randbytes(max(sizes) + 256)
    with words_at(path) as words:
        async with MessageQueue.create(**options) as queue:
            pipe.send(queue.handle)
            for number, size in enumerate(sizes):
                start = number % 256
                await queue.enqueue(packed(number, pool[start : start + size]), timeout=HANG)
                words[DONE] = number + 1
            await queue.aclose(HANG)
    pipe.send("closed")


async def read(pipe: Pipe, path: str, handle: Handle, rank: int) -> None:
    """Read to the end; report how many messages came, and all that was wrong with them."""
    with words_at(path) as words:
        async with MessageQueue.create_from_handle(handle, rank) as queue:
            wrongs = [wrong async for wrong in wrong_messages(queue, words)]
        pipe.send((words[consumed(rank)], wrongs))


async def wrong_messages(queue: Reader, words: memoryview) -> AsyncIterator[str]:
    """Read to the end, counting in the witness; gives what is wrong as it comes."""
    number = 0
    async for message in queue:
        got, wrong = examine(message)
        if wrong:
            yield wrong
        if got != number:
            yield f"message {got} for {number}"
        number = got + 1
        words[consumed(queue.rank)] = number


async def reach(words: memoryview, index: int, value: int) -> None:
    """Wait until a word of the witness has reached a value; a hang is when it stands still."""
    await follow(lambda: int(words[index]), value)


async def follow(look: Callable[[], int], value: int) -> None:
    """Wait until what only grows has reached a value; a hang is when it stands still."""
    last, since = look(), time.monotonic()
    while last < value:
        await asyncio.sleep(0.001)
        if (now := look()) != last:
            last, since = now, time.monotonic()
        assert time.monotonic() - since < HANG, f"stands at {last} on its way to {value}"
