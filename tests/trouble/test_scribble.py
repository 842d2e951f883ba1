"""A reader that writes rubbish into all that readers may write: no wrong byte reaches anyone."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
import zlib
from typing import Any

from aioshm import (
    Evicted,
    Handle,
    MessageQueue,
    QueueShutDown,
    SegmentError,
)
from aioshm.shm.layout import WRITTEN
from tests.helpers import HANG, Child, Pipe
from tests.trouble.cases import case

SECONDS = 2.0
SMALL: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}


def message(number: int) -> tuple[int, bytes, int]:
    """Give a message of some size that tells whether it is whole."""
    body = random.Random(number).randbytes(number * 37 % 3000)
    return number, body, zlib.crc32(body)


async def read_and_check(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read to whatever end; report how many messages came, all whole and in order, and the end."""
    count, ended = 0, ""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        try:
            while True:
                number, body, crc = await queue.dequeue(HANG)
                assert (number, crc) == (count, zlib.crc32(body))
                assert (number, body, crc) == message(count)
                count += 1
        except (QueueShutDown, Evicted, SegmentError) as error:
            ended = f"{type(error).__name__}: {error}"
    pipe.send((count, ended))


async def scribble(pipe: Pipe, handle: Handle, plausible: bool) -> None:
    """Overwrite the control segment, over and over: every byte, or each cursor by a likely one."""
    source = random.Random(30)
    async with MessageQueue.create_from_handle(handle, 2) as queue:
        await queue.wait_until_ready(HANG)
        data, control = queue._segments
        pipe.send("begins")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if plausible:
                for word in range(len(control.words)):
                    if control.words[word]:
                        back = source.randrange(200) * 64
                        control.words[word] = max(0, data.words[WRITTEN] - back)
            else:
                control.raw[:] = source.randbytes(len(control.raw))
            await asyncio.sleep(0)
        pipe.send("ends")
        os.kill(os.getpid(), signal.SIGSTOP)


@case(30, "random bytes", "likely cursors")
async def test_scribbler(how: str) -> None:
    async with MessageQueue.create(3, on_reader_death="evict", **SMALL) as queue:
        with (
            Child(read_and_check, queue.handle, 0) as a,
            Child(read_and_check, queue.handle, 1) as b,
            Child(scribble, queue.handle, how == "likely cursors") as scribbler,
        ):
            await queue.wait_until_ready(HANG)
            assert await scribbler.receive() == "begins"
            ends = asyncio.create_task(scribbler.receive())
            number, said = 0, set[str]()
            while not ends.done():
                number += await _try(queue, number, said)
                await asyncio.sleep(0)
            assert await ends == "ends"
            assert 2 in {member.rank for member in queue._roster.live.values()}
            queue.evict(2)
            # Whoever cannot be trusted any more is named, and without it the writer goes on.
            for _ in range(100):
                text = ""
                while not await _try(queue, number, said):
                    text = sorted(said)[0]
                    said.clear()
                    if found := re.search(r"cursor of rank (\d) \(pid \d+\) is", text):
                        queue.evict(int(found[1]))
                number += 1
            assert number >= 100
            await queue.aclose()
            for child in (a, b):
                count, ended = await child.receive()
                assert count <= number
                if ended.startswith("QueueShutDown"):
                    assert count == number
                else:
                    assert re.match(r"(Evicted|SegmentError): reader rank \d of queue", ended)
                await child.join()


async def _try(queue: Any, number: int, said: set[str]) -> bool:
    """Write a message; if that fails, note the reason."""
    try:
        await queue.enqueue(message(number), timeout=1.0)
    except (SegmentError, TimeoutError) as error:
        said.add(str(error))
        return False
    return True
