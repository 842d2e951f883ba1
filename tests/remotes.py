"""Queues over TCP for tests, on this machine's loopback address."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

from aioshm import Gap, Handle, MessageQueue, QueueShutDown, Reader, Writer, WriterDied
from tests.helpers import HANG, Pipe, until

LOOPBACK = "127.0.0.1"
SOON = 0.5
"""Seconds of `peer_timeout` in tests that have to wait for it."""
LATE = 10 * SOON
"""Ten times its bound is what a test may ask of a time."""


def remote_queue(n_reader: int = 1, n_local_reader: int = 0, **options: Any) -> Writer:
    """Make a writer whose readers come over loopback, all but the local ones."""
    if n_local_reader < n_reader:
        options = {"connect_ip": LOOPBACK, **options}
    return MessageQueue.create(n_reader, n_local_reader, **options)


@contextlib.asynccontextmanager
async def gathered(
    n_reader: int = 1, n_local_reader: int = 0, **options: Any
) -> AsyncIterator[tuple[Writer, list[Reader]]]:
    """Give a writer and its readers by rank, all in this loop, ready."""
    async with contextlib.AsyncExitStack() as stack:
        writer = await stack.enter_async_context(remote_queue(n_reader, n_local_reader, **options))
        readers = [
            await stack.enter_async_context(MessageQueue.create_from_handle(writer.handle, rank))
            for rank in writer.handle.ranks
        ]
        await asyncio.gather(*(end.wait_until_ready(HANG) for end in (writer, *readers)))
        yield writer, readers


@contextlib.asynccontextmanager
async def remote_pair(**options: Any) -> AsyncIterator[tuple[Writer, Reader]]:
    """Give a writer and its only reader, both in this loop, ready."""
    async with gathered(1, **options) as (writer, (reader,)):
        yield writer, reader


async def fill(writer: Writer, size: int = 1000, start: int = 0) -> int:
    """Write numbered messages until there is no room; returns the number of the next."""
    number = start
    with contextlib.suppress(asyncio.QueueFull):
        while True:
            writer.enqueue_nowait((number, bytes(size)))
            number += 1
    return number


async def consumed(writer: Writer) -> None:
    """Wait until the remote readers have consumed everything, and the writer knows."""
    await until(lambda: not writer.stats().remote.waiting)


def pump_of(end: Any) -> Any:
    """The pump of the socket of one end, for tests that make it stand still."""
    link = end._remote
    return link.router if isinstance(end, Writer) else link._dealer


def arrived(reader: Any) -> bool:
    """Tell whether a message is there to be read."""
    return reader._try_lease() is not None


async def read_later(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Join, and read to the end only when told to."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        await pipe.receive()
        pipe.send(await read_all(queue))


async def read_all(queue: Any) -> tuple[list[Any], str]:
    """Read until the end; what came, checksums for bytes, and how it ended."""
    got: list[Any] = []
    while True:
        try:
            message = await queue.dequeue(2 * HANG)
            got.append(zlib.crc32(message) if isinstance(message, bytes) else message)
        except Gap as gap:
            got.append(("gap", gap.first, gap.last))
        except (WriterDied, QueueShutDown) as error:
            return got, type(error).__name__
