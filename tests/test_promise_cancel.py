"""Promise 2: a call that was cancelled or timed out did nothing, whatever tick it lands in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from aioshm import QueueEmpty
from aioshm.ends.end import End
from tests.helpers import HANG, pair, until


async def until_parked(end: End, parks: int) -> None:
    """Turn the loop until the end's head of the line has parked once more."""
    await until(lambda: end._wait_stats().parks > parks and end._waiter._sleeper is not None)


async def cancel_in_the_tick(
    end: End, call: Callable[[], Awaitable[object]], event: Callable[[], None], order: str
) -> None:
    """Have `call` park, then let the event, its wake-up and a cancel happen in one callback."""
    loop, fired = asyncio.get_running_loop(), []
    task = asyncio.ensure_future(call())
    await until_parked(end, end._wait_stats().parks)

    def tick() -> None:
        sleeper = end._waiter._sleeper
        assert sleeper is not None
        if order == "cancel first":
            task.cancel()
        event()
        end._waiter._heard()
        assert sleeper.done()
        if order == "wake first":
            task.cancel()
        fired.append(True)

    loop.call_soon(tick)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fired == [True]


ORDERS = pytest.mark.parametrize("order", ["wake first", "cancel first"])


@ORDERS
async def test_a_cancel_in_the_tick_a_message_arrives_loses_nothing(order: str) -> None:
    writer, reader = await pair()
    async with writer, reader:
        for number in range(200):
            await cancel_in_the_tick(
                reader, reader.dequeue, partial(writer.enqueue_nowait, number), order
            )
            assert reader.dequeue_nowait() == number
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()


@ORDERS
async def test_a_cancel_in_the_tick_a_lease_arrives_loses_nothing(order: str) -> None:
    writer, reader = await pair()
    async with writer, reader:
        for number in range(100):

            async def lease() -> None:
                async with reader.acquire_read():
                    pass

            await cancel_in_the_tick(reader, lease, partial(writer.enqueue_nowait, number), order)
            assert await reader.dequeue(timeout=0) == number


@ORDERS
async def test_a_cancel_in_the_tick_room_appears_writes_nothing(order: str) -> None:
    writer, reader = await pair(max_chunk_bytes=4096, max_chunks=2)
    async with writer, reader:
        expected, following = 0, 0
        for _ in range(100):
            with pytest.raises(asyncio.QueueFull):
                while True:
                    writer.enqueue_nowait((following, bytes(4000)))
                    following += 1

            def make_room() -> None:
                nonlocal expected
                assert reader.dequeue_nowait()[0] == expected
                expected += 1

            await cancel_in_the_tick(
                writer, lambda: writer.enqueue(("never", bytes(4000))), make_room, order
            )
        while expected < following:
            assert reader.dequeue_nowait()[0] == expected
            expected += 1
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()


async def test_a_cancel_while_yielding_loses_nothing() -> None:
    writer, reader = await pair()
    async with writer, reader:
        for turns in range(8):
            for number in range(50):
                task = asyncio.create_task(reader.dequeue())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                writer.enqueue_nowait((turns, number))
                try:
                    got = await task
                except asyncio.CancelledError:
                    got = reader.dequeue_nowait()
                assert got == (turns, number)


@pytest.mark.parametrize("how", ["own", "asyncio.timeout", "asyncio.wait_for"])
async def test_a_message_that_comes_after_a_timeout_is_not_lost(how: str) -> None:
    writer, reader = await pair()
    async with writer, reader:

        async def dequeue(seconds: float) -> Any:
            if how == "own":
                return await reader.dequeue(timeout=seconds)
            if how == "asyncio.wait_for":
                return await asyncio.wait_for(reader.dequeue(), seconds)
            async with asyncio.timeout(seconds):
                return await reader.dequeue()

        got: list[int] = []
        source = random.Random(3)

        async def write() -> None:
            for number in range(300):
                await asyncio.sleep(source.random() * 0.004)
                await writer.enqueue(number)

        writing = asyncio.create_task(write())
        timeouts = 0
        while len(got) < 300:
            try:
                got.append(await dequeue(source.random() * 0.003))
            except TimeoutError:
                timeouts += 1
        await writing
        assert got == list(range(300))
        assert timeouts > 0


async def test_timeout_zero_tries_once() -> None:
    writer, reader = await pair()
    async with writer, reader:
        with pytest.raises(TimeoutError):
            await reader.dequeue(timeout=0)
        await writer.enqueue("there")
        assert await reader.dequeue(timeout=0) == "there"


async def test_a_hundred_tasks_at_each_end_with_random_cancels_lose_and_double_nothing() -> None:
    writer, reader = await pair(max_chunk_bytes=2048, max_chunks=2)
    source = random.Random(11)
    written: list[tuple[int, int]] = []
    read: list[tuple[int, int]] = []

    async def write(task: int) -> None:
        for number in range(40):
            while True:
                call = asyncio.ensure_future(writer.enqueue((task, number, bytes(500))))
                if source.random() < 0.3:
                    asyncio.get_running_loop().call_later(source.random() * 2e-3, call.cancel)
                try:
                    await call
                except asyncio.CancelledError:
                    continue
                written.append((task, number))
                break

    async def read_some() -> None:
        while not finished.is_set():
            call = asyncio.ensure_future(reader.dequeue())
            if source.random() < 0.3:
                asyncio.get_running_loop().call_later(source.random() * 2e-3, call.cancel)
            try:
                task, number, _ = await call
            except asyncio.CancelledError:
                continue
            read.append((task, number))
            if len(read) == 4000:
                finished.set()

    async with writer, reader:
        finished = asyncio.Event()
        readers = [asyncio.create_task(read_some()) for _ in range(100)]
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            for task in range(100):
                group.create_task(write(task))
        async with asyncio.timeout(HANG):
            await finished.wait()
        for reading in readers:
            reading.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        assert sorted(read) == sorted(written)
        for task_number in range(100):
            assert [n for t, n in read if t == task_number] == list(range(40))
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()
