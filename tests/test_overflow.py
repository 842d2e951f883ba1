"""Messages larger than the ring's chunks: like any other, whatever call takes them."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aioshm import AioshmError, DecodeError, MessageQueue, MessageTooLarge, QueueFull
from aioshm.links.flow import PIECE
from aioshm.links.folder import folder
from tests.helpers import HANG, Child, Pipe, descriptors, pair, until
from tests.trouble.forked import in_forked_child


def sizes_around(*bounds: int) -> list[int]:
    """Each bound, one less and one more."""
    return [bound + around for bound in bounds for around in (-1, 0, 1)]


async def test_sizes_around_every_boundary_come_through_in_order() -> None:
    writer, reader = await pair(max_chunk_bytes=1 << 16, max_chunks=2)
    async with writer, reader:
        sizes = sizes_around(8192, 1 << 16, PIECE, 2 * PIECE, 3 * PIECE)

        async def write() -> None:
            for size in sizes:
                await writer.enqueue(os.urandom(size))
                await writer.enqueue(np.frombuffer(os.urandom(size), np.uint8))
                await writer.enqueue(size)

        writing = asyncio.create_task(write())
        for size in sizes:
            assert len(await reader.dequeue(HANG)) == size
            assert (await reader.dequeue(HANG)).shape == (size,)
            assert await reader.dequeue(HANG) == size
        await writing
        assert writer.stats().overflow.messages > len(sizes)
        await until(lambda: not writer.stats().overflow.waiting)
        assert writer.stats().overflow.breaches == 0
        assert writer.stats().waits.rescues == reader.stats().waits.rescues == 0


async def test_the_exact_limit_of_the_ring_stays_in_the_ring() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        overhead = len(writer._encode(bytes(900))[0]) - 900
        await writer.enqueue(bytes(1000 - overhead))
        assert writer.stats().overflow.messages == 0
        await writer.enqueue(bytes(1001 - overhead))
        assert writer.stats().overflow.messages == 1
        for size in (1000, 1001):
            assert len(await reader.dequeue(HANG)) == size - overhead


async def test_an_array_is_the_callers_own_and_writable() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue({"a": np.arange(1 << 18), "b": np.ones(1 << 17), "empty": np.ones(0)})
        got = await reader.dequeue(HANG)
        got["a"][0] = got["b"][0] = 7
        assert np.array_equal(got["a"][1:], np.arange(1, 1 << 18))
        assert np.array_equal(got["b"][1:], np.ones((1 << 17) - 1))


async def test_async_for_and_broadcast_object_take_large_messages() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        large = os.urandom(100_000)
        sent, got = await asyncio.gather(
            writer.broadcast_object(large, HANG), reader.broadcast_object(None, HANG)
        )
        assert sent == got == large
        for number in range(3):
            await writer.enqueue((number, large))
        closing = asyncio.create_task(writer.aclose())
        assert [message[0] async for message in reader] == [0, 1, 2]
        await closing


async def test_a_large_message_can_be_leased_and_left() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        array = np.arange(PIECE)
        await writer.enqueue(array)
        await writer.enqueue("small")
        with pytest.raises(LookupError):
            async with reader.acquire_read(HANG) as lease:
                raise LookupError
        with pytest.raises(BufferError, match="still the next"):
            async with reader.acquire_read(HANG) as lease:
                kept: Any = lease.load()
        del kept
        with pytest.raises(BufferError, match="still the next"):
            async with reader.acquire_read(HANG) as lease:
                kept = lease.buffers[1][5:]
        del kept
        async with reader.acquire_read(HANG) as lease:
            loaded = lease.load()
            assert np.array_equal(loaded, array)
            assert not loaded.flags.writeable
            assert all(view.readonly for view in lease.buffers)
            del loaded
        async with reader.acquire_read(HANG) as lease:
            assert lease.load() == "small"
        await until(lambda: not writer.stats().overflow.waiting)


async def test_a_lease_waits_for_the_body_and_the_writers_own_lease_takes_none() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:

        async def lease() -> int:
            async with reader.acquire_read(HANG) as lease:
                return len(lease.load())

        leasing = asyncio.create_task(lease())
        await until(lambda: reader.stats().waits.parks)
        await writer.enqueue(bytes(3 * PIECE))
        assert await leasing == 3 * PIECE
        with pytest.raises(MessageTooLarge, match="max_chunk_bytes"):
            async with writer.acquire_write(1001):
                pass


class Unreadable:
    """Cannot be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number", bytes(5000))


async def test_a_decode_error_costs_just_that_message() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(Unreadable())
        await writer.enqueue("after")
        with pytest.raises(DecodeError, match="just that one"):
            await reader.dequeue(HANG)
        assert await reader.dequeue(HANG) == "after"


async def test_a_full_window_makes_the_writer_wait_and_says_for_whom() -> None:
    writer, reader = await pair(max_chunk_bytes=1000, max_overflow_bytes=100_000)
    async with writer, reader:
        await writer.enqueue(bytes(60_000))
        with pytest.raises(QueueFull, match=r"large messages are on their way: rank 0 \(pid"):
            writer.enqueue_nowait(bytes(60_000))
        with pytest.raises(TimeoutError, match="max_overflow_bytes=100000"):
            await writer.enqueue(bytes(60_000), timeout=0.01)
        position = writer.stats().position
        await writer.enqueue("small ones pass")
        assert writer.stats().position == position + 64
        waiting = asyncio.create_task(writer.enqueue(b"x" * 60_000))
        await until(lambda: writer._waiter._sleeper is not None)
        small = asyncio.create_task(writer.enqueue("in line"))
        parks = writer.stats().waits.parks
        assert await reader.dequeue(HANG) == bytes(60_000)
        await waiting
        await small
        assert writer.stats().waits.parks <= parks + 2, "it spun"
        assert await reader.dequeue(HANG) == "small ones pass"
        assert await reader.dequeue(HANG) == b"x" * 60_000
        assert await reader.dequeue(HANG) == "in line"
        assert writer.stats().waits.rescues == 0


async def test_a_full_ring_keeps_a_marker_back_and_the_body_with_it() -> None:
    writer, reader = await pair(max_chunk_bytes=4096, max_chunks=2)
    async with writer, reader:
        count = 0
        with pytest.raises(QueueFull, match="the ring of"):
            while True:
                writer.enqueue_nowait(count)
                count += 1
        with pytest.raises(QueueFull, match="the ring of"):
            writer.enqueue_nowait(bytes(5000))
        with pytest.raises(TimeoutError):
            await writer.enqueue(bytes(5000), timeout=0)
        assert writer.stats().overflow.messages == 0
        waiting = asyncio.create_task(writer.enqueue(bytes(5000)))
        await until(lambda: writer._waiter._sleeper is not None)
        assert [await reader.dequeue(HANG) for _ in range(count)] == list(range(count))
        await waiting
        assert await reader.dequeue(HANG) == bytes(5000)
        assert writer.stats().waits.rescues == 0


async def test_a_reader_that_waits_for_a_body_does_not_spin() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue("first")
        assert await reader.dequeue(HANG) == "first"
        await writer.enqueue(bytes(PIECE))
        router = writer._overflow._router
        assert router is not None
        router._closed = True  # its pump stands still
        waiting = asyncio.create_task(reader.dequeue())
        await until(lambda: reader._waiter._sleeper is not None)
        parks = reader.stats().waits.parks
        for number in range(20):
            await writer.enqueue(number)
            await asyncio.sleep(0.002)
        assert reader.stats().waits.parks <= parks + 1
        assert reader.stats().waits.bells == 0
        router._closed = False
        router.wake()
        assert await asyncio.wait_for(waiting, HANG) == bytes(PIECE)
        assert [await reader.dequeue(HANG) for _ in range(20)] == list(range(20))


async def test_a_rank_taken_again_begins_with_the_next_large_message() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=1000) as writer:
        stays = MessageQueue.create_from_handle(writer.handle, 0)
        async with stays:
            first = MessageQueue.create_from_handle(writer.handle, 1)
            async with first:
                await asyncio.gather(*(end.wait_until_ready(HANG) for end in (first, stays)))
                await writer.enqueue(b"0" * 5000)
                await writer.enqueue(b"1" * 5000)
                assert await first.dequeue(HANG) == b"0" * 5000
            await until(lambda: len(writer.stats().readers) == 1)
            second = MessageQueue.create_from_handle(writer.handle, 1)
            async with second:
                await second.wait_until_ready(HANG)
                await writer.enqueue(b"2" * 5000)
                assert await second.dequeue(HANG) == b"2" * 5000
                for digit in b"012":
                    assert await stays.dequeue(HANG) == bytes([digit]) * 5000
                await until(lambda: not writer.stats().overflow.waiting)


async def test_a_queue_without_large_messages_has_no_socket_for_them() -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("small")
        assert await reader.dequeue(HANG) == "small"
        assert list(folder().iterdir()) == [Path(writer.handle.path)]
        await writer.enqueue(bytes(3 << 20))
        assert len(await reader.dequeue(HANG)) == 3 << 20
        assert len(list(folder().iterdir())) == 2


async def test_an_evicted_rank_frees_the_window_at_once() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=1000, max_overflow_bytes=100_000) as writer:
        ends = [MessageQueue.create_from_handle(writer.handle, rank) for rank in range(2)]
        async with ends[0], ends[1]:
            await asyncio.gather(*(end.wait_until_ready(HANG) for end in ends))
            await writer.enqueue(bytes(60_000))
            assert await ends[0].dequeue(HANG) == bytes(60_000)
            waiting = asyncio.create_task(writer.enqueue(b"x" * 60_000))
            await until(lambda: writer._waiter._sleeper is not None)
            writer.evict(1)
            await waiting
            assert await ends[0].dequeue(HANG) == b"x" * 60_000


async def test_ends_that_are_dropped_take_their_sockets_with_them() -> None:
    before = descriptors()
    writer, reader = await pair(max_chunk_bytes=1000)
    await writer.enqueue(bytes(5000))
    await writer.enqueue(bytes(5000))
    assert await reader.dequeue(HANG) == bytes(5000)
    gone: list[weakref.ref[Any]] = [weakref.ref(writer), weakref.ref(reader)]
    with pytest.warns(ResourceWarning, match="was not closed"):
        del writer, reader
        gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert len(descriptors()) <= len(before)


def sockets() -> set[str]:
    """The sockets that this process has open."""
    return {what for what in descriptors().values() if what.startswith("socket:")}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_keeps_no_socket_of_the_overflow() -> None:
    before = sockets()
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        assert await reader.dequeue(HANG) == bytes(5000)
        assert len(sockets()) == len(before) + 6  # for each link: who listens, and two ends
        assert await in_forked_child(lambda: len(sockets() - before)) == "0"
        await writer.enqueue(b"after" * 1000)
        assert await reader.dequeue(HANG) == b"after" * 1000


async def echo(pipe: Pipe, handle: Any, rank: int) -> None:
    """Read all, and report how many bytes each message had."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        pipe.send([len(message) async for message in queue])


async def test_readers_in_processes_of_their_own_share_one_snapshot() -> None:
    async with MessageQueue.create(3, max_chunk_bytes=1000) as queue:
        with (
            Child(echo, queue.handle, 0) as a,
            Child(echo, queue.handle, 1) as b,
            Child(echo, queue.handle, 2) as c,
        ):
            await queue.wait_until_ready(HANG)
            sizes = [10, 5_000, 20, 3 * PIECE, 30, 7 * PIECE + 1]
            for size in sizes:
                await queue.enqueue(bytes(size), timeout=HANG)
            await queue.aclose(timeout=HANG)
            for child in (a, b, c):
                assert await child.receive() == sizes
                await child.join()


async def test_a_folder_with_a_long_path_will_do(
    monkeypatch: pytest.MonkeyPatch, runtime_folder: Path
) -> None:
    deep = runtime_folder / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        assert await reader.dequeue(HANG) == bytes(5000)


async def test_nothing_waits_for_large_messages_that_were_read() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with reader:
        await writer.enqueue(bytes(5000))
        assert await reader.dequeue(HANG) == bytes(5000)
        await until(lambda: not writer.stats().overflow.waiting)
        await writer.aclose(timeout=0)


async def test_with_no_descriptors_left_a_large_message_fails_and_the_process_lives() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        few = len(descriptors()) + 10
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
        try:
            with pytest.raises(AioshmError, match="cannot listen.*descriptors are needed"):
                await writer.enqueue(bytes(5000))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await writer.enqueue(bytes(5000))
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
        try:
            with pytest.raises(AioshmError, match="cannot connect.*descriptors are needed"):
                await reader.dequeue(HANG)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await reader.dequeue(HANG) == bytes(5000)


async def test_a_new_queue_sweeps_dead_sockets_and_leaves_live_ones() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        async with MessageQueue.create():
            assert Path(f"{writer.handle.path}.overflow").exists()
        assert await reader.dequeue(HANG) == bytes(5000)
