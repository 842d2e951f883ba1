"""Large messages in trouble: frozen readers, limits, closes. Numbered, one by one."""

from __future__ import annotations

import asyncio
import os
import signal
import zlib
from pathlib import Path
from typing import Any

import pytest

from aioshm import (
    Evicted,
    Gap,
    Handle,
    MessageQueue,
    MessageTooLarge,
    QueueShutDown,
)
from tests.helpers import HANG, Child, Pipe, pair, until
from tests.overflows import LARGE, body, read_to_the_end


async def read_when_told(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read one message, wait for a word, then read until an error; report all."""
    got = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        got.append(zlib.crc32(await queue.dequeue(HANG)))
        pipe.send("one")
        await pipe.receive()
        try:
            while True:
                got.append(zlib.crc32(await queue.dequeue(HANG)))
        except (Evicted, QueueShutDown) as error:
            pipe.send((got, type(error).__name__))


def resident() -> int:
    """Bytes of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("fate", ["resumed", "evicted"])
async def test_9_a_frozen_reader_costs_no_more_memory_than_max_overflow_bytes(fate: str) -> None:
    limit = 32 << 20
    async with MessageQueue.create(2, max_chunk_bytes=1000, max_overflow_bytes=limit) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(read_when_told, queue.handle, 1) as b,
        ):
            await queue.wait_until_ready(HANG)
            assert await a.receive() == "ready"
            message = body(0)
            await queue.enqueue(message)
            assert await b.receive() == "one"
            b.signal(signal.SIGSTOP)
            before, written = resident(), 1
            with pytest.raises(TimeoutError, match=r"rank 1 \(pid"):
                while True:
                    await queue.enqueue(message, timeout=1)
                    written += 1
            assert limit - 2 * LARGE < queue.stats().overflow.nbytes <= limit
            assert resident() - before < limit + (16 << 20)
            if fate == "evicted":
                queue.evict(1)
                await until(lambda: not queue.stats().overflow.waiting)
            b.signal(signal.SIGCONT)
            b.send("go on")
            for _ in range(20):
                await queue.enqueue(message, timeout=HANG)
                written += 1
            await queue.aclose(HANG)
            checksum = zlib.crc32(message)
            assert await a.receive() == ([checksum] * written, "QueueShutDown")
            got, error = await b.receive()
            if fate == "evicted":
                assert error == "Evicted"
            else:
                assert (got, error) == ([checksum] * written, "QueueShutDown")
            await a.join()
            await b.join()


async def test_10_a_message_above_max_overflow_bytes_is_refused_and_does_nothing() -> None:
    writer, reader = await pair(max_chunk_bytes=1000, max_overflow_bytes=LARGE)
    async with writer, reader:
        overhead = len(writer._encode(bytes(LARGE))[0]) - LARGE
        for size in (1, LARGE):
            with pytest.raises(MessageTooLarge, match=f"max_overflow_bytes is {LARGE}") as caught:
                await writer.enqueue(bytes(LARGE - overhead + size))
            assert (caught.value.size, caught.value.limit) == (LARGE + size, LARGE)
        assert writer.stats().messages == 0
        await writer.enqueue(bytes(LARGE - overhead))
        assert await reader.dequeue(HANG) == bytes(LARGE - overhead)
    writer, reader = await pair(max_chunk_bytes=1000, max_overflow_bytes=0)
    async with writer, reader:
        with pytest.raises(MessageTooLarge):
            await writer.enqueue(bytes(1001))


async def test_11_a_close_with_time_enough_waits_until_all_is_read() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=1000) as queue:
        with Child(read_to_the_end, queue.handle, 0) as a, Child(slowly, queue.handle, 1) as b:
            await queue.wait_until_ready(HANG)
            assert await a.receive() == "ready"
            for number in range(6):
                await queue.enqueue(body(number))
            await queue.enqueue("last")
            closing = asyncio.create_task(queue.aclose(timeout=HANG))
            # Who has read all need not wait for who has not.
            assert (await a.receive())[1] == "QueueShutDown"
            await a.join()
            assert not closing.done()
            with pytest.raises(QueueShutDown):
                await queue.enqueue("late")
            b.send("go on")
            got, error = await b.receive()
            assert got == [*(zlib.crc32(body(number)) for number in range(6)), "last"]
            assert error == "QueueShutDown"
            await closing
            assert not queue.stats().overflow.waiting
            await b.join()


async def slowly(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Join; read only when told to."""
    got: list[Any] = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        await pipe.receive()
        try:
            while True:
                message = await queue.dequeue()
                got.append(zlib.crc32(message) if isinstance(message, bytes) else message)
        except (Gap, QueueShutDown) as error:
            pipe.send((got, type(error).__name__))


async def test_11_a_close_without_time_enough_leaves_gaps_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with reader:
        await writer.enqueue("first")
        await writer.enqueue(bytes(5000))
        await writer.enqueue("between")
        await writer.enqueue(bytes(5000))
        await writer.enqueue("last")
        started = asyncio.get_running_loop().time()
        await writer.aclose(timeout=0.05)
        assert asyncio.get_running_loop().time() - started < HANG
        assert [r.levelname for r in caplog.records if "raise Gap" in r.message] == ["WARNING"]
        assert await reader.dequeue(HANG) == "first"
        with pytest.raises(Gap, match="is lost; the next call goes on after it") as caught:
            await reader.dequeue(HANG)
        assert (caught.value.first, caught.value.last) == (1, 1)
        assert await reader.dequeue(HANG) == "between"
        with pytest.raises(Gap):
            async with reader.acquire_read(HANG):
                pass
        assert reader.dequeue_nowait() == "last"
        with pytest.raises(QueueShutDown):
            await reader.dequeue(HANG)


async def test_11_a_cancelled_close_closes_at_once() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with reader:
        await writer.enqueue(bytes(5000))
        closing = asyncio.create_task(writer.aclose(timeout=HANG))
        await until(lambda: writer._gathering._sleeper is not None)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not Path(writer.handle.path).exists()
        with pytest.raises(Gap):
            await reader.dequeue(HANG)
