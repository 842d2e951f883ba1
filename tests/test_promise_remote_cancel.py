"""Readers over TCP: a call that was cancelled or timed out did nothing, in whatever tick."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from aioshm import QueueEmpty, Reader, Writer
from tests.helpers import HANG
from tests.overflows import Held
from tests.remotes import arrived, consumed, fill, pump_of, remote_pair
from tests.test_promise_cancel import ORDERS, cancel_in_the_tick

LAST = -1
SMALL: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}


def pump_until(writer: Writer, reader: Reader, condition: Callable[[], object]) -> None:
    """Have both pumps run until something is so, here and now."""
    deadline = time.monotonic() + HANG
    while not condition():
        pump_of(writer)._pump()
        pump_of(reader)._pump()
        assert time.monotonic() < deadline


@ORDERS
@pytest.mark.parametrize("size", [10, 20_000], ids=["small", "large"])
@pytest.mark.parametrize("call", ["dequeue", "acquire_read"])
async def test_a_cancel_in_the_tick_a_message_arrives_loses_nothing(
    call: str, size: int, order: str
) -> None:
    async with remote_pair(max_chunk_bytes=1000) as (writer, reader):

        async def lease() -> None:
            async with reader.acquire_read():
                pass

        def arrive(number: int) -> None:
            pump_of(reader)._closed = False
            writer.enqueue_nowait((number, bytes(size)))
            pump_until(writer, reader, lambda: arrived(reader))

        for number in range(200):
            with Held(pump_of(reader)):
                waits = reader.dequeue if call == "dequeue" else lease
                await cancel_in_the_tick(reader, waits, partial(arrive, number), order)
            assert reader.dequeue_nowait() == (number, bytes(size))
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()
        await consumed(writer)
        assert writer.stats().remote.breaches == 0


@ORDERS
async def test_a_cancel_in_the_tick_room_appears_writes_nothing(order: str) -> None:
    async with remote_pair(**SMALL) as (writer, reader):
        following = 0
        for _ in range(100):
            first, following = following, await fill(writer, 4000, following)
            assert following > first

            def make_room(first: int = first, following: int = following) -> None:
                for number in range(first, following):
                    pump_until(writer, reader, lambda: arrived(reader))
                    assert reader.dequeue_nowait()[0] == number
                pump_until(writer, reader, lambda: not writer.stats().remote.waiting)

            await cancel_in_the_tick(
                writer, lambda: writer.enqueue(("never", bytes(4000))), make_room, order
            )
            assert not writer.stats().remote.waiting
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()


async def test_a_cancel_while_yielding_loses_nothing() -> None:
    async with remote_pair() as (writer, reader):
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
                    got = await reader.dequeue(HANG)
                assert got == (turns, number)


@pytest.mark.parametrize("how", ["own", "asyncio.timeout", "asyncio.wait_for"])
async def test_a_message_that_comes_after_a_timeout_is_not_lost(how: str) -> None:
    async with remote_pair() as (writer, reader):

        async def dequeue(seconds: float) -> Any:
            if how == "own":
                return await reader.dequeue(timeout=seconds)
            if how == "asyncio.wait_for":
                return await asyncio.wait_for(reader.dequeue(), seconds)
            async with asyncio.timeout(seconds):
                return await reader.dequeue()

        source, got, timeouts = random.Random(3), list[int](), 0

        async def write() -> None:
            for number in range(200):
                await asyncio.sleep(source.random() * 0.004)
                await writer.enqueue(number)

        writing = asyncio.create_task(write())
        while len(got) < 200:
            try:
                got.append(await dequeue(source.random() * 0.003))
            except TimeoutError:
                timeouts += 1
        await writing
        assert got == list(range(200))
        assert timeouts > 0


async def test_a_thousand_cancels_and_timeouts_at_both_ends_lose_and_double_nothing() -> None:
    source = random.Random(11)
    ended = {"cancel": 0, "timeout": 0}
    written: list[int] = []

    async def disturbed(call: Callable[[float | None], Any]) -> Any:
        """Make a call until it comes through, however often it is cancelled or times out."""
        while True:
            kind, seconds = source.randrange(4), source.random() * 1e-3
            task = asyncio.ensure_future(call(seconds if kind == 1 else None))
            if kind == 0:
                asyncio.get_running_loop().call_later(seconds, task.cancel)
            try:
                return await task
            except asyncio.CancelledError:
                ended["cancel"] += 1
            except TimeoutError:
                ended["timeout"] += 1

    async with remote_pair(**SMALL) as (writer, reader):

        async def write() -> None:
            while min(ended.values()) < 500:
                message = (len(written), bytes(source.choice((0, 500, 3000, 20_000))))
                await disturbed(partial(writer.enqueue, message))
                written.append(message[0])
            await writer.enqueue((LAST, b""))

        async def read() -> list[int]:
            read: list[int] = []
            while True:
                if source.random() < 0.3:
                    await asyncio.sleep(source.random() * 1e-3)
                number, _ = await disturbed(reader.dequeue)
                if number == LAST:
                    return read
                read.append(number)

        async with asyncio.timeout(3 * HANG):
            _, got = await asyncio.gather(write(), read())
        assert got == written == list(range(len(written)))
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()
        await consumed(writer)
        assert writer.stats().remote.breaches == 0
