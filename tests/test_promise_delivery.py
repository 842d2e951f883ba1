"""Promises 1, 3 and 4: every message once, in order, bit for bit; nobody's memory is shared;
a full ring makes the writer wait and drops nothing."""

from __future__ import annotations

import asyncio
import random
import zlib

import numpy as np
import pytest

from aioshm import Backoff, Handle, MessageQueue, QueueFull
from tests.helpers import HANG, Child, Pipe, pair, until


def make_message(number: int, seed: int) -> tuple[int, int, bytes]:
    """Give a message whose length and bytes depend on its number, with its checksum."""
    source = random.Random(seed * 1_000_003 + number)
    body = source.randbytes(int(2 ** source.uniform(0, 15)))
    return number, zlib.crc32(body), body


async def verify_all(pipe: Pipe, handle: Handle, rank: int, backoff: Backoff) -> None:
    """Read until the writer closes; report how many came and what was wrong with them."""
    count, wrong = 0, []
    async with MessageQueue.create_from_handle(handle, rank, backoff=backoff) as queue:
        async for number, crc, body in queue:
            if number != count or zlib.crc32(body) != crc:
                wrong.append((count, number))
            count += 1
        pipe.send((count, wrong, queue.stats().waits.rescues))


@pytest.mark.parametrize("doorbell", [True, False], ids=["doorbell", "timer"])
async def test_every_reader_gets_every_message_once_in_order_bit_for_bit(doorbell: bool) -> None:
    total, backoff = 4000, Backoff(doorbell=doorbell)
    queue = MessageQueue.create(3, max_chunk_bytes=1 << 16, max_chunks=2, backoff=backoff)
    async with queue:
        children = [Child(verify_all, queue.handle, rank, backoff) for rank in range(3)]
        with children[0], children[1], children[2]:
            await queue.wait_until_ready(HANG)
            for number in range(total):
                await queue.enqueue(make_message(number, 7), timeout=HANG)
            await queue.aclose()
            for child in children:
                assert await child.receive() == (total, [], 0)
                await child.join()
    assert queue.stats().waits.rescues == 0


async def test_the_caller_may_change_the_object_as_soon_as_enqueue_returns() -> None:
    writer, reader = await pair()
    async with writer, reader:
        array, small = np.arange(100_000), bytearray(b"small")
        await writer.enqueue({"array": array, "small": small})
        array[:], small[:] = -1, b"XXXXX"
        got = await reader.dequeue(HANG)
        assert np.array_equal(got["array"], np.arange(100_000))
        assert got["small"] == b"small"


async def test_what_dequeue_returns_is_the_callers_own_and_writable() -> None:
    writer, reader = await pair(max_chunk_bytes=1 << 20, max_chunks=2)
    async with writer, reader:
        kept = []
        for number in range(20):
            await writer.enqueue(np.full(100_000, number, np.uint8))
            got = await reader.dequeue(HANG)
            assert got.flags.writeable
            kept.append(got)
        for number, array in enumerate(kept):
            assert (array == number).all(), "a later message wrote into an earlier one"
            array[:] = 255


async def test_a_read_only_array_stays_read_only() -> None:
    writer, reader = await pair()
    async with writer, reader:
        array = np.arange(10_000)
        array.flags.writeable = False
        await writer.enqueue(array)
        assert not (await reader.dequeue(HANG)).flags.writeable


async def test_a_full_ring_refuses_at_once_or_waits_and_drops_nothing() -> None:
    writer, reader = await pair(max_chunk_bytes=4096, max_chunks=2)
    async with writer, reader:
        sent = 0
        with pytest.raises(QueueFull, match=r"rank 0 \(pid \d+\) is \d+ bytes behind"):
            while True:
                writer.enqueue_nowait(sent)
                sent += 1
        with pytest.raises(TimeoutError, match="rank 0"):
            await writer.enqueue(sent, timeout=0.05)
        waiting = asyncio.create_task(writer.enqueue(sent, timeout=HANG))
        assert [await reader.dequeue(HANG) for _ in range(sent)] == list(range(sent))
        await waiting
        assert await reader.dequeue(HANG) == sent


async def answer(pipe: Pipe, handle: Handle, loads: int) -> None:
    """Answer each request on a queue of our own."""
    async with (
        MessageQueue.create_from_handle(handle, 0) as requests,
        MessageQueue.create(1, max_chunk_bytes=4096, max_chunks=2) as replies,
    ):
        pipe.send(replies.handle)
        for _ in range(loads):
            await replies.enqueue(await requests.dequeue(HANG), timeout=HANG)
        await pipe.receive()
        pipe.send((requests.stats().waits.rescues, replies.stats().waits.rescues))


async def test_request_and_response_through_two_slots_need_no_rescue() -> None:
    rounds = 2000
    async with MessageQueue.create(1, max_chunk_bytes=4096, max_chunks=2) as requests:
        with Child(answer, requests.handle, rounds) as child:
            await requests.wait_until_ready(HANG)
            replies = MessageQueue.create_from_handle(await child.receive(), 0)
            async with replies:
                for number in range(rounds):
                    # From empty to the largest that fits, so that the ring wraps everywhere.
                    body = bytes(number * 37 % 4000)
                    await requests.enqueue((number, body), timeout=HANG)
                    assert await replies.dequeue(HANG) == (number, body)
                child.send("done")
                assert await child.receive() == (0, 0)
                assert requests.stats().waits.rescues == replies.stats().waits.rescues == 0
                await child.join()


async def follow(pipe: Pipe, handle: Handle, rank: int, total: int) -> None:
    """Read with pauses that make this reader sometimes the slowest and sometimes idle."""
    source = random.Random(rank)
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        for number in range(total):
            assert await queue.dequeue(HANG) == (number, bytes(900))
            if number % 40 == source.randrange(40):
                await asyncio.sleep(source.random() * 0.004)
        pipe.send(queue.stats().waits.rescues)


async def test_eight_readers_on_two_cores_in_bursts_neither_freeze_nor_need_a_rescue() -> None:
    total, burst = 1440, 12
    async with MessageQueue.create(8, max_chunk_bytes=4096, max_chunks=2) as queue:
        children = [Child(follow, queue.handle, rank, total) for rank in range(8)]
        try:
            await queue.wait_until_ready(HANG)
            for number in range(total):
                await queue.enqueue((number, bytes(900)), timeout=HANG)
                if number % burst == burst - 1:
                    await asyncio.sleep(0.002)
            for child in children:
                assert await child.receive() == 0
            assert queue.stats().waits.parks > 0
            assert queue.stats().waits.rescues == 0
            for child in children:
                await child.join()
        finally:
            for child in children:
                child.__exit__(None, None, None)


@pytest.mark.parametrize("doorbell", [True, False], ids=["doorbell", "timer"])
async def test_a_cursor_that_was_set_back_does_not_make_the_two_ends_wait_for_each_other(
    doorbell: bool,
) -> None:
    backoff = Backoff(doorbell=doorbell)
    async with MessageQueue.create(max_chunk_bytes=4096, max_chunks=2) as writer:
        async with MessageQueue.create_from_handle(writer.handle, 0, backoff=backoff) as reader:
            for number in range(2):
                await writer.enqueue((number, bytes(4000)), timeout=HANG)
                assert (await reader.dequeue(HANG))[0] == number
            assert reader._ring is not None
            waiting = asyncio.create_task(reader.dequeue(HANG))
            await until(lambda: reader.stats().waits.parks)
            reader._segments[1].words[writer._layout.read(0)] = 0  # another reader's doing
            await writer.enqueue((2, bytes(4000)), timeout=HANG)
            assert (await waiting)[0] == 2
