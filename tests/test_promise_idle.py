"""Promises 9 and 10: idle costs nothing, and a busy loop lets other tasks run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import pytest

from aioshm import Backoff, Handle, MessageQueue, ReaderDied
from tests.helpers import HANG, Child, Pipe, pair, until


async def idle_and_count(pipe: Pipe, handle: Handle) -> None:
    """Wait idly, and report wake-ups and CPU seconds over each interval asked for."""
    async with MessageQueue.create_from_handle(handle, 0) as queue:
        await queue.wait_until_ready(HANG)
        waiting = asyncio.create_task(queue.dequeue())
        await asyncio.sleep(1)  # until the safety looks are a second apart
        wakeups, cpu = queue.stats().waits.wakeups, time.process_time()
        await asyncio.sleep(3)
        pipe.send((queue.stats().waits.wakeups - wakeups, time.process_time() - cpu))
        await waiting


async def test_an_idle_reader_wakes_at_most_twice_a_second() -> None:
    async with MessageQueue.create() as writer:
        with Child(idle_and_count, writer.handle) as child:
            await writer.wait_until_ready(HANG)
            wakeups, cpu = await child.receive()
            assert wakeups <= 6
            assert cpu < 10 * 0.001 * 3, "ten times a tenth of a per cent"
            await writer.enqueue("end")
            await child.join()


async def read_and_count(pipe: Pipe, handle: Handle, count: int) -> None:
    """Read `count` messages and report the CPU seconds that took."""
    async with MessageQueue.create_from_handle(handle, 0) as queue:
        await queue.wait_until_ready(HANG)
        cpu = time.process_time()
        for _ in range(count):
            await queue.dequeue()
        pipe.send((time.process_time() - cpu, queue.stats().waits.rescues))


async def test_a_reader_fed_a_hundred_messages_a_second_hardly_uses_the_cpu() -> None:
    async with MessageQueue.create() as writer:
        with Child(read_and_count, writer.handle, 200) as child:
            await writer.wait_until_ready(HANG)
            for number in range(200):
                await writer.enqueue({"step": number, "text": "x" * 60})
                await asyncio.sleep(0.01)
            cpu, rescues = await child.receive()
            assert rescues == 0
            assert cpu < 10 * 0.03 * 2, "ten times three per cent"
            await child.join()


async def test_a_loop_that_always_finds_messages_lets_others_run_every_64_operations() -> None:
    writer, reader = await pair()
    async with writer, reader:

        async def read(number: int) -> None:
            assert await reader.dequeue() == number

        operations: list[Callable[[int], Awaitable[None]]] = [writer.enqueue, read]
        for operation in operations:
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            await asyncio.sleep(0)
            before = turns
            for number in range(640):
                await operation(number)
            assert turns - before >= 640 // 64
            task.cancel()


async def test_a_polling_loop_with_timeout_zero_lets_others_run_too() -> None:
    writer, reader = await pair()
    async with writer, reader:
        ran = asyncio.Event()
        asyncio.get_running_loop().call_soon(ran.set)
        for _ in range(64):
            with pytest.raises(TimeoutError):
                await reader.dequeue(timeout=0)
        assert ran.is_set()


async def test_calls_that_fail_at_once_let_others_run_too() -> None:
    alone = MessageQueue.create()
    writer, reader = await pair()
    async with alone, writer:
        assert not alone.stats().readers
        reader._drop()  # to the writer this is a death
        await until(lambda: bool(writer.stats().dead))
        for queue, error in ((alone, TimeoutError), (writer, ReaderDied)):
            ran = asyncio.Event()
            asyncio.get_running_loop().call_soon(ran.set)
            for _ in range(64):
                with pytest.raises(error):
                    await queue.enqueue("never written", timeout=0)
            assert ran.is_set()
    await reader.aclose()


async def test_one_who_was_cancelled_in_line_gets_to_run_although_messages_never_end() -> None:
    writer, reader = await pair()
    async with writer, reader:
        still_there = []

        async def read() -> None:
            for number in range(200):
                assert await reader.dequeue() == number
                still_there.append(not second.done())

        first = asyncio.create_task(read())
        second = asyncio.create_task(reader.dequeue())
        await until(lambda: reader._waiter.length == 2 and reader.stats().waits.parks > 0)
        for number in range(200):
            writer.enqueue_nowait(number)
        # In one tick, as where the bell rings while the timeout of the other one is over. So
        # who goes on finds the other one still in line, and must not stay alone for ever.
        reader._waiter.notify()
        second.cancel()
        await first
        assert 1 <= sum(still_there) <= 64
        assert second.cancelled()


async def test_without_the_doorbell_neither_side_rings() -> None:
    backoff = Backoff(yield_for=0, min_sleep=0.001, max_sleep=0.002, doorbell=False)
    writer = MessageQueue.create(1, max_chunk_bytes=4096, max_chunks=2, backoff=backoff)
    reader = MessageQueue.create_from_handle(writer.handle, 0, backoff=backoff)
    async with writer, reader:
        await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))

        async def write() -> None:
            for number in range(100):
                await writer.enqueue((number, bytes(1000)), timeout=HANG)
                if number % 10 == 0:
                    await asyncio.sleep(0.004)

        writing = asyncio.create_task(write())
        for number in range(100):
            assert (await reader.dequeue(HANG))[0] == number
        await writing
        assert writer.stats().rung == reader.stats().rung == 0
        assert reader.stats().waits.parks > 0
        assert os.getpid() == writer.handle.pid
