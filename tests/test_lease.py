"""Leases: in place and without a copy, all or nothing, and no view outlives its lease."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from aioshm import DecodeError, Evicted, MessageTooLarge, QueueEmpty, QueueFull, QueueShutDown
from tests.helpers import HANG, pair
from tests.trouble.test_messages import Explosive


async def test_what_is_written_in_place_is_dequeued_as_bytes() -> None:
    writer, reader = await pair()
    async with writer, reader:
        async with writer.acquire_write(100) as lease:
            assert len(lease.buffer) == lease.nbytes == 100
            lease.buffer[:5] = b"hello"
            lease.nbytes = 5
        got = await reader.dequeue(HANG)
        assert type(got) is bytes
        assert got == b"hello"


async def test_a_lease_left_by_an_exception_or_a_cancel_writes_nothing() -> None:
    writer, reader = await pair()
    async with writer, reader:
        with pytest.raises(LookupError):
            async with writer.acquire_write(10):
                raise LookupError
        entered = asyncio.Event()

        async def fill() -> None:
            async with writer.acquire_write(10):
                entered.set()
                await asyncio.sleep(HANG)

        task = asyncio.create_task(fill())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()
        await writer.enqueue("next")
        assert await reader.dequeue(HANG) == "next"


async def test_a_leased_array_is_aligned_and_a_view_of_the_ring() -> None:
    writer, reader = await pair()
    async with writer, reader:
        for number in range(5):
            await writer.enqueue({"pad": "x" * number * 7, "array": np.arange(10_000.0)})
            async with reader.acquire_read() as lease:
                array = lease.load()["array"]
                assert array.ctypes.data % 64 == 0
                assert not array.flags.owndata
                assert not array.flags.writeable
                assert np.array_equal(array, np.arange(10_000.0))
                del array


async def test_a_read_lease_left_normally_consumes_and_otherwise_does_not() -> None:
    writer, reader = await pair()
    async with writer, reader:
        for number in range(3):
            await writer.enqueue(number)
        with pytest.raises(LookupError):
            async with reader.acquire_read() as lease:
                assert lease.load() == 0
                raise LookupError
        async with reader.acquire_read() as lease:
            assert lease.load() == 0
        async with reader.acquire_read() as lease:
            assert lease.load() == 1
        assert await reader.dequeue(HANG) == 2


@pytest.mark.parametrize("kind", ["slice", "cast", "array", "loaded"])
async def test_a_view_that_outlives_its_read_lease_is_found(kind: str) -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue(np.arange(10_000))
        with pytest.raises(BufferError, match="still the next.*copy with bytes"):
            async with reader.acquire_read() as lease:
                kept = {
                    "slice": lambda: lease.buffers[1][5:],
                    "cast": lambda: lease.buffers[1].cast("Q"),
                    "array": lambda: np.frombuffer(lease.buffers[1]),
                    "loaded": lease.load,
                }[kind]()
        del kept
        assert np.array_equal(await reader.dequeue(HANG), np.arange(10_000))


@pytest.mark.parametrize("kind", ["slice", "array"])
async def test_a_view_that_outlives_its_write_lease_is_found_and_nothing_is_written(
    kind: str,
) -> None:
    writer, reader = await pair()
    async with writer, reader:
        with pytest.raises(BufferError, match="nothing was written"):
            async with writer.acquire_write(100) as lease:
                view = lease.buffer
                kept = view[1:] if kind == "slice" else np.frombuffer(view, np.uint8)
        del kept
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()
        async with writer.acquire_write(3) as lease:
            released = lease.buffer
            lease.buffer[:] = b"abc"
        # A name for a released view is no view.
        with pytest.raises(ValueError, match="released"):
            released[0]
        assert await reader.dequeue(HANG) == b"abc"


async def test_other_tasks_wait_for_a_lease_and_the_same_task_is_told() -> None:
    writer, reader = await pair()
    async with writer, reader:
        async with writer.acquire_write(3) as lease:
            with pytest.raises(RuntimeError, match="would wait for itself"):
                await writer.enqueue("inside")
            with pytest.raises(QueueFull, match="lease"):
                writer.enqueue_nowait("inside")
            other = asyncio.create_task(writer.enqueue("other"))
            with pytest.raises(TimeoutError):
                await asyncio.create_task(writer.enqueue("late", timeout=0.01))
            assert not other.done()
            lease.buffer[:] = b"own"
        await other
        async with reader.acquire_read() as lease:
            with pytest.raises(RuntimeError, match="would wait for itself"):
                await reader.dequeue()
            with pytest.raises(QueueEmpty, match="lease"):
                reader.dequeue_nowait()
            second = asyncio.create_task(reader.dequeue())
            assert lease.load() == b"own"
        assert await second == "other"


async def test_misuse_of_a_lease_is_told() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        with pytest.raises(ValueError, match="-1 bytes"):
            writer.acquire_write(-1)
        with pytest.raises(MessageTooLarge):
            async with writer.acquire_write(1001):
                pass
        lease = writer.acquire_write(10)
        with pytest.raises(RuntimeError, match="inside its async with"):
            lease.buffer  # noqa: B018
        async with lease:
            for nbytes in (-1, 11):
                with pytest.raises(ValueError, match="0 to 10"):
                    lease.nbytes = nbytes
            lease.nbytes = 0
        assert await reader.dequeue(HANG) == b""
        with pytest.raises(TimeoutError):
            async with reader.acquire_read(timeout=0):
                pass


async def test_an_eviction_during_a_lease_is_told_at_its_end() -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("torn")
        with pytest.raises(Evicted):
            async with reader.acquire_read():
                writer.evict(0)


async def test_bytes_torn_under_a_lease_are_an_eviction_and_no_fault_of_the_message() -> None:
    writer, reader = await pair(max_chunk_bytes=4096, max_chunks=2)
    async with writer, reader:
        await writer.enqueue([b"whole"] * 100)
        with pytest.raises(Evicted):
            async with reader.acquire_read() as lease:
                writer.evict(0)
                for _ in range(8):
                    await writer.enqueue(b"\xff" * 4000)
                lease.load()


async def test_a_message_that_cannot_be_decoded_under_a_lease_says_so() -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue(Explosive())
        with pytest.raises(DecodeError):
            async with reader.acquire_read() as lease:
                lease.load()


async def test_a_close_during_a_lease_writes_and_consumes_nothing() -> None:
    writer, reader = await pair()
    await writer.enqueue("unread")
    async with reader.acquire_read() as lease:
        await reader.aclose()
        assert lease.load() == "unread"  # its memory stays until the lease is left
    with pytest.raises(QueueShutDown, match="nothing was written"):
        async with writer.acquire_write(10):
            await writer.aclose()
