"""Readers over TCP: what closing and leaving do, and what they cost nobody."""

from __future__ import annotations

import asyncio
import dataclasses
import zlib
from typing import Any

import pytest

from aioshm import MessageQueue, QueueShutDown, WriterDied
from tests.helpers import HANG, Child, until
from tests.overflows import body, read_to_the_end
from tests.remotes import (
    SOON,
    consumed,
    fill,
    gathered,
    read_all,
    read_later,
    remote_pair,
    remote_queue,
)

# -- closing -----------------------------------------------------------------------------


async def test_a_close_waits_until_all_is_read_and_then_the_readers_are_told() -> None:
    async with remote_queue(3, 1, max_chunk_bytes=1000) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as local,
            Child(read_to_the_end, queue.handle, 1) as a,
            Child(read_later, queue.handle, 2) as b,
        ):
            await queue.wait_until_ready(HANG)
            for child in (local, a, b):
                assert await child.receive() == "ready"
            sent: list[Any] = []
            for number in range(6):
                await queue.enqueue(body(number))
                await queue.enqueue(number)
                sent += [zlib.crc32(body(number)), number]
            closing = asyncio.create_task(queue.aclose(timeout=HANG))
            # Who has read all need not wait for who has not.
            assert await a.receive() == await local.receive() == (sent, "QueueShutDown")
            assert not closing.done()
            with pytest.raises(QueueShutDown):
                await queue.enqueue("late")
            b.send("go on")
            assert await b.receive() == (sent, "QueueShutDown")
            await closing
            assert not queue.stats().remote.waiting
            for child in (local, a, b):
                await child.join()


async def test_a_close_without_time_enough_leaves_a_gap_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    total = 30  # more than a reader that does not read takes
    async with remote_queue(peer_timeout=SOON) as writer:
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            for number in range(total):
                await writer.enqueue(body(number))
            started = asyncio.get_running_loop().time()
            await writer.aclose(timeout=0.05)
            assert asyncio.get_running_loop().time() - started < HANG
            assert [r.levelname for r in caplog.records if "raise Gap" in r.getMessage()] == [
                "WARNING"
            ]
            got, ended = await read_all(reader)
    came = len(got) - 1
    assert got[:-1] == [zlib.crc32(body(number)) for number in range(came)]
    assert 0 < came < total
    assert got[-1] == ("gap", came, total - 1)
    assert ended == "QueueShutDown"


async def test_a_cancelled_close_closes_at_once() -> None:
    async with remote_pair() as (writer, reader):
        await writer.enqueue("unread")
        closing = asyncio.create_task(writer.aclose(timeout=HANG))
        await until(lambda: writer._gathering._sleeper is not None)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert writer.closed
        got, ended = await read_all(reader)
        # What is on its way may arrive or not; in either case the reader hears of the end.
        assert (got, ended) in (
            (["unread"], "QueueShutDown"),
            ([("gap", 0, 0)], "QueueShutDown"),
            (["unread"], "WriterDied"),
            ([], "WriterDied"),
        )


async def test_a_writer_closes_at_once_if_nobody_has_joined_or_all_have_left() -> None:
    async with asyncio.timeout(4):  # it would wait for 5 s if it waited for anybody
        async with remote_queue(2, 1):
            pass
        async with gathered(2) as (writer, readers):
            await writer.enqueue("unread")
            for reader in readers:
                await reader.aclose()


async def test_a_reader_that_comes_after_the_close_is_told() -> None:
    async with remote_pair() as (writer, reader):
        closing = asyncio.create_task(writer.aclose(HANG))
        await closing
        with pytest.raises(QueueShutDown):
            await reader.dequeue(HANG)
    late = MessageQueue.create_from_handle(dataclasses.replace(writer.handle, peer_timeout=SOON), 0)
    async with late:
        with pytest.raises((WriterDied, QueueShutDown)):
            await late.dequeue(HANG)


# -- leaving -----------------------------------------------------------------------------


async def test_a_reader_that_says_goodbye_frees_its_rank_and_nobody_raises() -> None:
    async with remote_queue(max_chunk_bytes=4096, max_chunks=2) as queue:
        number = 0
        for _ in range(30):
            async with MessageQueue.create_from_handle(queue.handle, 0) as reader:
                await reader.wait_until_ready(HANG)
                await queue.enqueue(number)
                assert await reader.dequeue(HANG) == number
                number += 1
            await until(lambda: not queue.stats().readers)
            for _ in range(20):  # nobody is waited for, and who comes next does not get them
                await queue.enqueue(bytes(1000), timeout=0)
                number += 1
        assert queue.stats().dead == ()
        await consumed(queue)


async def test_a_reader_that_leaves_with_a_lot_unread_holds_nobody() -> None:
    async with gathered(2, max_chunk_bytes=4096, max_chunks=2) as (writer, (a, b)):
        accepted = await fill(writer)
        waiting = asyncio.create_task(writer.enqueue(("last", bytes(1000))))
        for number in range(accepted):
            assert (await a.dequeue(HANG))[0] == number
        assert not waiting.done()
        await b.aclose()
        await asyncio.wait_for(waiting, HANG)
        assert (await a.dequeue(HANG))[0] == "last"


async def test_a_rank_that_is_taken_again_starts_with_the_next_message() -> None:
    async with gathered(2, 1) as (writer, (local, first)):
        for number in range(3):
            await writer.enqueue(number)
        assert await first.dequeue(HANG) == 0
        await first.aclose()
        await until(lambda: len(writer.stats().readers) == 1)
        await writer.enqueue(3)
        async with MessageQueue.create_from_handle(writer.handle, 1) as second:
            await second.wait_until_ready(HANG)
            await writer.enqueue(4)
            assert await second.dequeue(HANG) == 4
            assert second.stats().messages == 5
        assert [await local.dequeue(HANG) for _ in range(5)] == list(range(5))


async def test_a_reader_that_leaves_while_it_is_let_in_has_left() -> None:
    async with remote_queue(2, peer_timeout=SOON) as writer:
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            for _ in range(10):
                async with MessageQueue.create_from_handle(writer.handle, 1):
                    # From now on it has a rank, and does not know.
                    await until(lambda: 1 in {peer.rank for peer in writer.stats().readers})
                await until(lambda: len(writer.stats().readers) == 1)
            await reader.wait_until_ready(HANG)
            await asyncio.sleep(2 * SOON)  # a death would be known by now
            assert writer.stats().dead == ()
            await writer.enqueue("undisturbed")
            assert await reader.dequeue(HANG) == "undisturbed"
