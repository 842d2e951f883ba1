"""Large messages for tests, and a pump that stands still while they are on their way."""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import Any

from aioshm import (
    Gap,
    Handle,
    MessageQueue,
    QueueShutDown,
    WriterDied,
)
from tests.helpers import HANG, Pipe, until

LARGE = 3 << 20


def body(number: int, size: int = LARGE) -> bytes:
    """Bytes that belong to one message only."""
    return random.Random(number).randbytes(1000) * (size // 1000 + 1)


def overflow_of(end: Any) -> Any:
    """The end's overflow, for a look inside."""
    return end._overflow


class Held:
    """A pump that stands still inside the block, so that bodies are on their way for as long."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __enter__(self) -> None:
        self._shell._closed = True

    def __exit__(self, *what: object) -> None:
        self._shell._closed = False
        self._shell.wake()


async def read_to_the_end(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read until the writer's end; report number and checksum of each message, and each error."""
    got: list[Any] = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        while True:
            try:
                message = await queue.dequeue()
                got.append(zlib.crc32(message) if isinstance(message, bytes) else message)
            except Gap as gap:
                got.append(("gap", gap.first, gap.last))
            except (WriterDied, QueueShutDown) as error:
                pipe.send((got, type(error).__name__))
                return


async def connect_and_stop(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Receive half of a message, report it, and stay."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        reading = asyncio.create_task(queue.dequeue())
        await until(lambda: queue._overflow and queue._overflow._flow)
        assert queue._overflow is not None
        flow = queue._overflow._flow
        assert flow is not None
        await until(lambda: flow._next and flow._next[1] > 0)
        overflow_of(queue)._dealer._closed = True
        pipe.send("half")
        await reading
