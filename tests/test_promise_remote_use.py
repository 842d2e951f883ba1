"""Readers over TCP have the calls of local ones: joining, reading, leases, counts."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import numpy as np
import pytest

from aioshm import AioshmError, Evicted, MessageQueue, QueueEmpty, QueueFull, WrongEnd
from aioshm.links.flow import PIECE
from tests.helpers import HANG, until
from tests.remotes import SOON, consumed, gathered, remote_pair, remote_queue

# -- joining ---------------------------------------------------------------------------


async def test_all_ends_are_ready_at_once_when_the_last_has_joined() -> None:
    async with remote_queue(3, 1) as writer:
        ends = [MessageQueue.create_from_handle(writer.handle, rank) for rank in range(3)]
        async with ends[0], ends[1]:
            waiting = [asyncio.create_task(end.wait_until_ready(HANG)) for end in ends[:2]]
            await until(lambda: len(writer.stats().readers) == 2)
            with pytest.raises(TimeoutError, match=r"ranks \[2\] to join"):
                await writer.wait_until_ready(timeout=0.05)
            with pytest.raises(TimeoutError, match="the other readers to join"):
                await ends[1].wait_until_ready(timeout=0)
            with pytest.raises(QueueFull, match=r"ranks \[2\]"):
                writer.enqueue_nowait("too early")
            for end in ends[:2]:
                with pytest.raises(QueueEmpty):
                    end.dequeue_nowait()
            assert not any(task.done() for task in waiting)
            writing = asyncio.create_task(writer.enqueue("first"))
            async with ends[2]:
                assert [await end.dequeue(HANG) for end in ends] == ["first"] * 3
                await writing
                await asyncio.gather(*waiting)


async def test_calls_outside_a_loop_say_not_now() -> None:
    async with remote_queue() as writer:
        reader = MessageQueue.create_from_handle(writer.handle, 0)

        def outside() -> None:
            with pytest.raises(QueueEmpty):
                reader.dequeue_nowait()
            assert reader.stats().messages == 0

        await asyncio.to_thread(outside)
        await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
        await reader.aclose()


async def test_waiting_to_join_may_be_cancelled_and_begun_again() -> None:
    async with remote_queue() as writer:
        reader = MessageQueue.create_from_handle(writer.handle, 0)
        async with reader:
            for turns in range(20):
                task = asyncio.create_task(reader.wait_until_ready())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
            await writer.enqueue("in")
            assert await reader.dequeue(HANG) == "in"


async def test_a_reader_may_come_before_the_writer_runs_its_loop() -> None:
    writer = remote_queue(peer_timeout=HANG)
    async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
        with pytest.raises(TimeoutError, match="to let it in"):
            await reader.wait_until_ready(timeout=0.1)
        async with writer:
            await writer.enqueue("now")
            assert await reader.dequeue(HANG) == "now"


# -- reading ---------------------------------------------------------------------------


async def test_timeouts() -> None:
    async with remote_pair() as (writer, reader):
        for seconds in (0, 0.02):
            with pytest.raises(TimeoutError, match="for a message"):
                await reader.dequeue(timeout=seconds)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await reader.dequeue()
        await writer.enqueue("there")
        await asyncio.sleep(0)
        await until(lambda: _there(reader))
        assert await reader.dequeue(timeout=0) == "there"
        with pytest.raises(QueueEmpty, match="nothing to read"):
            reader.dequeue_nowait()


def _there(reader: Any) -> bool:
    """Look for a message without consuming it."""
    return reader._try_lease() is not None


async def test_async_for_ends_when_the_writer_closes() -> None:
    async with remote_pair() as (writer, reader):

        async def write() -> None:
            for number in range(1000):
                await writer.enqueue(number)
            await writer.aclose(HANG)

        writing = asyncio.create_task(write())
        assert [message async for message in reader] == list(range(1000))
        assert [message async for message in reader] == []
        await writing


async def test_several_tasks_read_each_its_own() -> None:
    async with remote_pair() as (writer, reader):
        tasks = [asyncio.create_task(reader.dequeue(HANG)) for _ in range(10)]
        await until(lambda: reader.stats().waits.parks)
        with pytest.raises(QueueEmpty, match="other tasks wait"):
            reader.dequeue_nowait()
        for number in range(10):
            await writer.enqueue(number)
        assert await asyncio.gather(*tasks) == list(range(10))


async def test_both_ends_broadcast() -> None:
    async with gathered(2, 1) as (writer, readers):
        sent = {"weights": [1, 2, 3]}
        got = await asyncio.gather(
            writer.broadcast_object(sent), *(end.broadcast_object("ignored") for end in readers)
        )
        assert got == [sent] * 3


async def test_calls_of_the_other_end_say_so() -> None:
    async with remote_pair() as (writer, reader):
        for call in (reader.enqueue_nowait, reader.acquire_write, reader.evict):
            with pytest.raises(WrongEnd, match="belongs to the writer"):
                call(0)
        with pytest.raises(WrongEnd):
            await reader.enqueue("x")
        with pytest.raises(WrongEnd):
            reader.export_handle()
        with pytest.raises(WrongEnd):
            writer.dequeue_nowait()


# -- leases ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 2 * PIECE], ids=["small", "large"])
async def test_a_lease_left_normally_consumes_and_otherwise_does_not(size: int) -> None:
    async with remote_pair(max_chunk_bytes=4096) as (writer, reader):
        for number in range(3):
            await writer.enqueue((number, bytes(size)))
        for _ in range(3):
            with pytest.raises(LookupError):
                async with reader.acquire_read(HANG) as lease:
                    assert lease.load()[0] == 0
                    raise LookupError
        entered = asyncio.Event()

        async def hold() -> None:
            async with reader.acquire_read(HANG):
                entered.set()
                await asyncio.sleep(HANG)

        task = asyncio.create_task(hold())
        await entered.wait()
        with pytest.raises(QueueEmpty, match="hold a lease"):
            reader.dequeue_nowait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with reader.acquire_read(HANG) as lease:
            assert lease.load()[0] == 0
            with pytest.raises(RuntimeError, match="this task holds a lease"):
                await reader.dequeue()
        async with reader.acquire_read(HANG) as lease:
            assert lease.load()[0] == 1
        assert (await reader.dequeue(HANG))[0] == 2
        await consumed(writer)


@pytest.mark.parametrize("kind", ["slice", "cast", "array", "loaded"])
async def test_a_view_that_outlives_its_lease_is_found(kind: str) -> None:
    async with remote_pair() as (writer, reader):
        await writer.enqueue(np.arange(10_000))
        with pytest.raises(BufferError, match="still the next.*copy with bytes"):
            async with reader.acquire_read(HANG) as lease:
                assert all(view.readonly for view in lease.buffers)
                kept = {
                    "slice": lambda: lease.buffers[1][5:],
                    "cast": lambda: lease.buffers[1].cast("Q"),
                    "array": lambda: np.frombuffer(lease.buffers[1]),
                    "loaded": lease.load,
                }[kind]()
        del kept
        assert np.array_equal(await reader.dequeue(HANG), np.arange(10_000))


async def test_what_was_written_in_place_is_leased_as_one_buffer() -> None:
    async with remote_pair() as (writer, reader):
        async with writer.acquire_write(5) as written:
            written.buffer[:] = b"hello"
        async with reader.acquire_read(HANG) as lease:
            assert [bytes(view) for view in lease.buffers] == [b"hello"]
            assert lease.load() == b"hello"


# -- counts, logs and secrets ----------------------------------------------------------


async def test_stats_count_messages_readers_and_what_is_not_consumed() -> None:
    async with gathered(3, 1) as (writer, readers):
        for number in range(5):
            await writer.enqueue(number)
        stats = writer.stats()
        assert stats.messages == 5
        assert [peer.rank for peer in stats.readers] == [0, 1, 2]
        assert {peer.pid for peer in stats.readers} == {os.getpid()}
        assert stats.remote.waiting == 5
        assert stats.remote.nbytes > 0
        for number in range(5):
            for reader in readers[:2]:
                assert await reader.dequeue(HANG) == number
        assert writer.stats().remote.waiting == 5  # rank 2 has read none
        for number in range(5):
            assert await readers[2].dequeue(HANG) == number
        await consumed(writer)
        stats = writer.stats()
        assert (stats.remote.nbytes, stats.remote.breaches, stats.dead) == (0, 0, ())
        for rank, reader in enumerate(readers):
            assert (reader.stats().rank, reader.stats().messages) == (rank, 5)
            assert reader.stats().waits.rescues == 0


async def test_neither_repr_nor_logs_nor_errors_tell_a_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    async with remote_queue(peer_timeout=SOON) as writer:
        handle = writer.handle
        said += [repr(handle), str(handle), repr(writer)]
        reader = MessageQueue.create_from_handle(handle, 0)
        second = MessageQueue.create_from_handle(handle, 0)
        async with reader:
            await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
            said.append(repr(reader))
            async with second:
                with pytest.raises(AioshmError) as caught:
                    await second.dequeue(HANG)
                said.append(str(caught.value))
            await writer.enqueue("private words")
            await reader.dequeue(HANG)
    said += [record.getMessage() for record in caplog.records]
    everything = "\n".join(said)
    assert handle.address in everything
    for secret in (handle.token, handle.client_secret, bytes.fromhex(handle.token).hex()):
        assert secret
        assert secret not in everything
    assert "private words" not in everything
    assert handle.name in everything
    assert [r.levelname for r in caplog.records if "rank 0 joined" in r.getMessage()][:1] == [
        "INFO"
    ]


async def test_a_pump_that_an_interrupt_struck_is_woken_by_the_next_message() -> None:
    async with gathered() as (writer, (reader,)):
        await writer.enqueue(1)
        await writer.enqueue(2)
        router = vars(writer)["_router"]
        await until(lambda: not router.due)
        for number in range(3, 60):
            await writer.enqueue(number)
            if number == 40:
                assert router.due
                router.due = False  # what the interrupt leaves: gathered, and nobody to send it
        assert router.due
        assert [await reader.dequeue(HANG) for _ in range(59)] == list(range(1, 60))


async def test_an_evicted_reader_gets_nothing_more_of_the_batch_at_hand() -> None:
    async with gathered() as (writer, (reader,)):
        for number in range(20):
            await writer.enqueue(number)
        assert await reader.dequeue(HANG) == 0
        writer.evict(0)
        await until(lambda: vars(reader)["_failure"] is not None)
        for _ in range(3):
            with pytest.raises(Evicted):
                await reader.dequeue(HANG)
