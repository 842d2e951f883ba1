"""A slow reader over TCP holds the writer back as a local one does, and nothing is dropped."""

from __future__ import annotations

import asyncio
import signal
import time
import zlib
from typing import Any

import pytest

from aioshm import Evicted, MessageQueue, QueueFull, Reader
from tests.helpers import HANG, Child, until
from tests.overflows import LARGE, body, read_to_the_end
from tests.remotes import consumed, fill, gathered, remote_pair, remote_queue
from tests.test_promise_overflow_limits import read_when_told, resident
from tests.test_promise_slow import AFTER, LATE, read_all, warned

SMALL: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}
WINDOW = 2 * 4096


async def read_numbers(reader: Reader, first: int, end: int) -> None:
    """Read these messages, and see that there is nothing after them."""
    for number in range(first, end):
        assert (await reader.dequeue(HANG))[0] == number
    with pytest.raises(TimeoutError):
        await reader.dequeue(timeout=0)


@pytest.mark.parametrize("size", [1000, 5000], ids=["small", "large"])
async def test_enqueue_waits_for_the_slowest_and_what_was_accepted_goes_on_to_the_others(
    size: int,
) -> None:
    async with gathered(3, 1, max_overflow_bytes=20_000, **SMALL) as (writer, readers):
        local, fast, slow = readers
        accepted = await fill(writer, size)
        for lap in range(3):
            await read_numbers(local, 0 if not lap else accepted, accepted)
            await read_numbers(fast, 0 if not lap else accepted, accepted)
            with pytest.raises(QueueFull, match=r"rank 2 \(pid \d+\)"):
                writer.enqueue_nowait((accepted, bytes(size)))
            with pytest.raises(TimeoutError, match=r"rank 2 \(pid \d+\)"):
                await writer.enqueue((accepted, bytes(size)), timeout=0.02)
            assert writer.stats().messages == accepted
        waiting = asyncio.create_task(writer.enqueue((accepted, bytes(size))))
        await until(lambda: writer.stats().waits.parks)
        await read_numbers(local, accepted, accepted)
        assert not waiting.done()
        for number in range(accepted):
            assert (await slow.dequeue(HANG))[0] == number
        await waiting
        for reader in readers:
            await read_numbers(reader, accepted, accepted + 1)
        await consumed(writer)


async def test_a_lease_to_write_waits_for_the_slowest_too() -> None:
    async with remote_pair(**SMALL) as (writer, reader):
        accepted = await fill(writer)
        with pytest.raises(TimeoutError, match="rank 0"):
            async with writer.acquire_write(4000, timeout=0.02):
                pass

        async def lease() -> None:
            async with writer.acquire_write(4000, timeout=HANG) as lease:
                lease.buffer[:] = bytes(4000)

        waiting = asyncio.create_task(lease())
        for number in range(accepted):
            assert (await reader.dequeue(HANG))[0] == number
        await waiting
        assert await reader.dequeue(HANG) == bytes(4000)


@pytest.mark.parametrize("size", [0, 100, 1000, 4000])
async def test_the_window_holds_as_much_as_the_ring_would(size: int) -> None:
    async with remote_pair(**SMALL) as (writer, reader):
        accepted = await fill(writer, size)
        stats = writer.stats().remote
        assert stats.waiting == accepted
        # With what each message counts for beside its bytes.
        assert accepted * (size + 64) < stats.nbytes <= WINDOW < stats.nbytes + size + 200
        for number in range(accepted):
            assert (await reader.dequeue(HANG))[0] == number
        await consumed(writer)
        assert writer.stats().remote.nbytes == 0


async def test_large_messages_have_the_window_of_max_overflow_bytes() -> None:
    async with remote_pair(max_overflow_bytes=20_000, **SMALL) as (writer, reader):
        large = await fill(writer, 5000)
        assert large == 3
        assert await fill(writer, 100, large) > large  # small ones have their own
        for number in range(writer.stats().messages):
            assert (await reader.dequeue(HANG))[0] == number


@pytest.mark.parametrize("fate", ["resumed", "evicted"])
async def test_a_frozen_reader_costs_the_writer_no_more_memory_than_the_window(fate: str) -> None:
    limit = 32 << 20
    options: dict[str, Any] = {
        "max_chunk_bytes": 1000,
        "max_overflow_bytes": limit,
        "peer_timeout": 2 * HANG,
    }
    async with remote_queue(2, **options) as queue:
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
            assert limit - 2 * LARGE < queue.stats().remote.nbytes <= limit + LARGE
            assert resident() - before < limit + (16 << 20)
            if fate == "evicted":
                queue.evict(1)
                await consumed(queue)
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


# -- eviction --------------------------------------------------------------------------


async def read_until_evicted(reader: Reader) -> int:
    """Read until the reader hears of its eviction; how many messages came before."""
    number = 0
    with pytest.raises(Evicted, match=r"reader rank \d of .*join again"):
        while True:
            assert (await reader.dequeue(HANG))[0] == number
            number += 1
    with pytest.raises(Evicted):
        await reader.dequeue(HANG)
    return number


async def test_evict_frees_the_writer_and_the_rank_at_once() -> None:
    async with gathered(2, 1, **SMALL) as (writer, (local, slow)):
        accepted = await fill(writer)
        await read_numbers(local, 0, accepted)
        with pytest.raises(QueueFull, match="rank 1"):
            writer.enqueue_nowait((accepted, bytes(1000)))
        waiting = asyncio.create_task(writer.enqueue((accepted, bytes(1000))))
        await until(lambda: writer.stats().waits.parks)
        writer.evict(1)
        await waiting
        assert [peer.rank for peer in writer.stats().readers] == [0]
        assert writer.stats().remote.waiting == 0
        with pytest.raises(ValueError, match="nobody has rank 1"):
            writer.evict(1)
        assert await read_until_evicted(slow) <= accepted
        async with MessageQueue.create_from_handle(writer.handle, 1) as another:
            await another.wait_until_ready(HANG)
            await writer.enqueue("next", timeout=HANG)
            assert await another.dequeue(HANG) == "next"
        assert (await local.dequeue(HANG))[0] == accepted
        assert await local.dequeue(HANG) == "next"


async def test_an_evicted_reader_that_waits_hears_of_it() -> None:
    async with remote_pair() as (writer, reader):
        waiting = asyncio.create_task(reader.dequeue())
        await until(lambda: reader.stats().waits.parks)
        writer.evict(0)
        with pytest.raises(Evicted):
            await waiting


async def test_who_holds_the_writer_back_for_too_long_is_evicted_and_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with remote_queue(3, 1, evict_after=AFTER, **SMALL) as queue:
        with (
            Child(read_all, queue.handle, 0) as local,
            Child(read_all, queue.handle, 1, AFTER / 8) as slow,
        ):
            async with MessageQueue.create_from_handle(queue.handle, 2) as stuck:
                await asyncio.gather(queue.wait_until_ready(HANG), stuck.wait_until_ready(HANG))
                assert await local.receive() == await slow.receive() == "ready"
                longest, number = 0.0, 0
                while len(queue.stats().readers) == 3:
                    began = time.monotonic()
                    await queue.enqueue((number, bytes(1000)), timeout=HANG)
                    longest = max(longest, time.monotonic() - began)
                    number += 1
                assert longest < LATE
                (said,) = warned(caplog)
                assert "rank 2 (pid" in said
                assert f"held it back for {AFTER:.3g} s" in said
                for _ in range(20):
                    await queue.enqueue((number, bytes(1000)), timeout=HANG)
                    number += 1
                assert await read_until_evicted(stuck) < number
            await queue.aclose(HANG)
            for child in (local, slow):
                got, ended, _ = await child.receive()
                assert (got, ended) == (list(range(number)), "QueueShutDown")
                await child.join()


async def test_a_reader_that_moves_within_a_batch_is_slow_and_not_stuck() -> None:
    async with remote_pair(evict_after=AFTER, **SMALL) as (writer, reader):
        accepted = await fill(writer, 0)
        waiting = asyncio.create_task(writer.enqueue((accepted, bytes(1000)), timeout=HANG))
        began = time.monotonic()
        # The writer gathered all of them in one turn of the loop: a few batches.
        for number in range(accepted):
            assert (await reader.dequeue(HANG))[0] == number
            if time.monotonic() - began < 3 * AFTER:
                await asyncio.sleep(AFTER / 16)
        await waiting
        assert time.monotonic() - began >= 3 * AFTER
        assert len(writer.stats().readers) == 1


async def test_an_idle_writer_evicts_nobody() -> None:
    async with remote_pair(evict_after=0.01, **SMALL) as (writer, reader):
        accepted = await fill(writer)
        await asyncio.sleep(0.1)  # the reader does not move, and nobody waits for it
        assert await fill(writer, 1000, accepted) == accepted
        await read_numbers(reader, 0, accepted)


async def test_a_writer_that_waits_says_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    async with remote_pair(warn_after=0.05, **SMALL) as (writer, _):
        accepted = await fill(writer)
        with pytest.raises(TimeoutError):
            await writer.enqueue((accepted, bytes(1000)), timeout=2.5)
        said = warned(caplog)
        assert said
        assert all("has waited" in text and "rank 0 (pid" in text for text in said)
