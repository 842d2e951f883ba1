"""Large messages in trouble: deaths, cancels, timeouts. Numbered, one by one."""

from __future__ import annotations

import asyncio
import random
import signal
import zlib
from functools import partial
from typing import Any

import numpy as np
import pytest

from aioshm import (
    MessageQueue,
    QueueEmpty,
    ReaderDied,
)
from aioshm.links.flow import PIECE
from aioshm.links.folder import folder, sweep
from tests.helpers import HANG, Child, Pipe, pair, until
from tests.overflows import Held, body, connect_and_stop, overflow_of, read_to_the_end
from tests.test_promise_cancel import ORDERS, cancel_in_the_tick


async def test_1_a_reader_killed_with_a_body_half_received_is_one_that_died() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=1000, max_overflow_bytes=80 << 20) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(connect_and_stop, queue.handle, 1) as b,
        ):
            await queue.wait_until_ready(HANG)
            assert await a.receive() == "ready"
            sent = [body(0, 40 << 20), body(1)]
            await queue.enqueue(sent[0])
            assert await b.receive() == "half"
            b.signal(signal.SIGKILL)
            await until(lambda: queue.stats().dead)
            with pytest.raises(ReaderDied):
                await queue.enqueue(body(9))
            queue.evict(1)
            await queue.enqueue(sent[1], timeout=HANG)
            await until(lambda: not queue.stats().overflow.waiting)
            await b.join(expect=-signal.SIGKILL)
            await queue.aclose(HANG)
            assert await a.receive() == ([zlib.crc32(m) for m in sent], "QueueShutDown")
            await a.join()


async def write_and_hold(pipe: Pipe, readers: int) -> None:
    """Write small messages and large ones, of which only the first two are sent; and stay."""
    async with MessageQueue.create(readers, max_chunk_bytes=1000) as queue:
        pipe.send(queue.handle)
        await queue.wait_until_ready(HANG)
        for number in range(2):
            await queue.enqueue(number)
            await queue.enqueue(body(number))
        await until(lambda: not queue.stats().overflow.waiting)
        with Held(overflow_of(queue)._router):
            for number in range(2, 5):
                await queue.enqueue(number)
                await queue.enqueue(body(number))
            await queue.enqueue("last")
            pipe.send("written")
            await pipe.receive()


async def test_2_after_a_killed_writer_each_body_on_its_way_is_a_gap_and_the_rest_comes() -> None:
    with Child(write_and_hold, 2) as writer:
        handle = await writer.receive()
        with Child(read_to_the_end, handle, 0) as a, Child(read_to_the_end, handle, 1) as b:
            assert await a.receive() == await b.receive() == "ready"
            assert await writer.receive() == "written"
            await writer.kill()
            expected: list[Any] = []
            for number in range(5):
                large = zlib.crc32(body(number))
                here = 2 * number + 1
                expected += [number, large if number < 2 else ("gap", here, here)]
            for child in (a, b):
                assert await child.receive() == ([*expected, "last"], "WriterDied")
                await child.join()
    assert len(list(folder().iterdir())) == 2  # two dead sockets: the link's and the overflow's
    sweep(folder())
    assert list(folder().iterdir()) == []


@ORDERS
async def test_3_a_cancel_in_the_tick_a_body_arrives_loses_nothing(order: str) -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        await reader.dequeue(HANG)
        router, dealer = overflow_of(writer)._router, overflow_of(reader)._dealer

        def arrive() -> None:
            """Have both pumps run until the body is whole, here and now."""
            flow = overflow_of(reader)._flow
            sequence = overflow_of(reader)._awaited
            router._closed = False
            while flow.body(sequence) is None:
                router._pump()
                dealer._pump()

        for number in range(500):
            router._closed = True
            await writer.enqueue((number, bytes(5000)))
            await cancel_in_the_tick(reader, reader.dequeue, arrive, order)
            assert reader.dequeue_nowait()[0] == number
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()
        assert writer.stats().overflow.breaches == 0


async def test_3_a_timeout_between_marker_and_body_loses_nothing() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        source = random.Random(5)
        timeouts = 0

        async def write() -> None:
            for number in range(500):
                await writer.enqueue((number, bytes(source.randrange(4 << 20))))

        writing = asyncio.create_task(write())
        for number in range(500):
            while True:
                try:
                    if source.random() < 0.5:
                        got = await reader.dequeue(timeout=source.random() * 2e-3)
                    else:
                        async with asyncio.timeout(source.random() * 2e-3):
                            got = await reader.dequeue()
                    break
                except TimeoutError:
                    timeouts += 1
            assert got[0] == number
        await writing
        assert timeouts > 20


@ORDERS
async def test_3_a_cancel_in_the_tick_an_acknowledgement_arrives_writes_nothing(
    order: str,
) -> None:
    writer, reader = await pair(max_chunk_bytes=1000, max_overflow_bytes=8000)
    async with writer, reader:
        await writer.enqueue((0, bytes(5000)))
        router = overflow_of(writer)._router
        for number in range(100):
            with pytest.raises(LookupError):  # the body is there then, and not consumed
                async with reader.acquire_read(HANG):
                    raise LookupError

            def acknowledge(number: int = number) -> None:
                assert reader.dequeue_nowait()[0] == number
                while writer.stats().overflow.waiting:
                    overflow_of(reader)._dealer._pump()
                    router._pump()

            await cancel_in_the_tick(
                writer, partial(writer.enqueue, ("never", bytes(5000))), acknowledge, order
            )
            assert writer.stats().overflow.waiting == 0
            await writer.enqueue((number + 1, bytes(5000)))
        assert (await reader.dequeue(HANG))[0] == 100


async def test_4_right_after_a_large_enqueue_there_is_nothing_yet_and_nothing_is_lost() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue("first")
        assert await reader.dequeue() == "first"
        # Fewer operations than the 64 of which one lets the loop run, and the body come.
        for number in range(20):
            writer.enqueue_nowait((number, bytes(5000)))
            with pytest.raises(QueueEmpty, match="not all of it"):
                reader.dequeue_nowait()
            with pytest.raises(TimeoutError):
                await reader.dequeue(timeout=0)
            with pytest.raises(TimeoutError):
                async with reader.acquire_read(timeout=0):
                    pass
            assert (await reader.dequeue(HANG))[0] == number


async def test_5_the_caller_may_change_its_array_right_after_enqueue() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        array, text = np.zeros(4 * PIECE, np.uint8), bytearray(2 * PIECE)
        for number in range(1, 20):
            array[:], text[:] = number, bytes([number]) * len(text)
            await writer.enqueue((array, text))
            array[:] = 255
            text.clear()  # raises BufferError while anybody holds a view of it
            text = bytearray(2 * PIECE)
            got_array, got_text = await reader.dequeue(HANG)
            assert (got_array == number).all()
            assert got_text == bytes([number]) * len(text)
