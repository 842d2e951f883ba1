"""Readers over TCP: a death is known in time at both ends, and only a death is one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

import pytest

from aioshm import Handle, MessageQueue, ReaderDied, Writer, WriterDied
from aioshm.links.flow import PIECE
from tests.helpers import HANG, Child, Pipe, until
from tests.overflows import body, read_to_the_end
from tests.remotes import (
    LATE,
    SOON,
    consumed,
    fill,
    gathered,
    read_all,
    read_later,
    remote_queue,
)

# -- dying -------------------------------------------------------------------------------


async def until_dead(queue: Writer, began: float) -> None:
    """Wait until a death is known, which has its time."""
    while not queue.stats().dead:
        await asyncio.sleep(0.01)
        assert time.monotonic() - began < LATE


@pytest.mark.parametrize("decision", ["evicted", "taken again"])
async def test_after_a_death_enqueue_raises_and_writes_nothing_until_it_is_decided(
    decision: str,
) -> None:
    async with remote_queue(3, 1, peer_timeout=SOON) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as local,
            Child(read_to_the_end, queue.handle, 1) as a,
            Child(read_to_the_end, queue.handle, 2) as b,
        ):
            await queue.wait_until_ready(HANG)
            for child in (local, a, b):
                assert await child.receive() == "ready"
            await queue.enqueue("first")
            await consumed(queue)
            began = time.monotonic()
            await b.kill()
            await until_dead(queue, began)
            assert queue.stats().dead == (2,)
            assert [peer.rank for peer in queue.stats().readers] == [0, 1]
            messages = queue.stats().messages
            text = rf"rank 2 \(pid {b.pid}\) died, .*evict\(2\)"
            for _ in range(3):
                with pytest.raises(ReaderDied, match=text) as caught:
                    await queue.enqueue("never")
                assert (caught.value.rank, caught.value.pid) == (2, b.pid)
                with pytest.raises(ReaderDied):
                    queue.enqueue_nowait("never")
                with pytest.raises(ReaderDied):
                    async with queue.acquire_write(10):
                        pass
            assert queue.stats().messages == messages
            async with contextlib.AsyncExitStack() as stack:
                if decision == "evicted":
                    queue.evict(2)
                else:
                    another = MessageQueue.create_from_handle(queue.handle, 2)
                    await stack.enter_async_context(another)
                    await another.wait_until_ready(HANG)
                await queue.enqueue("second", timeout=HANG)
                if decision == "taken again":
                    assert await another.dequeue(HANG) == "second"
                await queue.aclose(HANG)
            for child in (local, a):
                assert await child.receive() == (["first", "second"], "QueueShutDown")
                await child.join()


async def test_a_waiting_writer_learns_of_a_killed_reader_in_time() -> None:
    async with remote_queue(2, peer_timeout=SOON, max_chunk_bytes=4096, max_chunks=2) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(read_later, queue.handle, 1) as b,
        ):
            await queue.wait_until_ready(HANG)
            assert await a.receive() == await b.receive() == "ready"
            accepted = await fill(queue)
            waiting = asyncio.create_task(queue.enqueue((accepted, bytes(1000))))
            began = time.monotonic()
            await b.kill()
            with pytest.raises(ReaderDied, match=rf"rank 1 \(pid {b.pid}\)"):
                await asyncio.wait_for(waiting, HANG)
            assert time.monotonic() - began < LATE
            queue.evict(1)
            await queue.aclose(HANG)
            got, _ = await a.receive()
            assert [number for number, _ in got] == list(range(accepted))
            await a.join()


async def test_with_evict_the_writer_goes_on_without_the_dead_reader(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = {"peer_timeout": SOON, "on_reader_death": "evict", "max_chunk_bytes": 4096}
    async with remote_queue(2, 1, **options) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as local,
            Child(read_to_the_end, queue.handle, 1) as b,
        ):
            await queue.wait_until_ready(HANG)
            assert await local.receive() == await b.receive() == "ready"
            b.signal(signal.SIGKILL)
            for number in range(3000):
                await queue.enqueue(number, timeout=HANG)
            await until(lambda: len(queue.stats().readers) == 1)
            assert queue.stats().dead == ()
            await b.join(expect=-signal.SIGKILL)
            await queue.aclose(HANG)
            assert await local.receive() == (list(range(3000)), "QueueShutDown")
            await local.join()
    assert [r.levelname for r in caplog.records if "evicted" in r.getMessage()] == ["WARNING"]


async def test_a_stopped_reader_comes_back_from_the_dead_and_misses_nothing() -> None:
    async with remote_queue(1, peer_timeout=SOON) as queue:
        with Child(read_to_the_end, queue.handle, 0) as child:
            await queue.wait_until_ready(HANG)
            assert await child.receive() == "ready"
            child.signal(signal.SIGSTOP)
            await queue.enqueue(0)
            await until_dead(queue, time.monotonic())
            with pytest.raises(ReaderDied):
                await queue.enqueue("never")
            child.signal(signal.SIGCONT)
            await until(lambda: not queue.stats().dead)
            for number in range(1, 10):
                await queue.enqueue(number, timeout=HANG)
            await queue.aclose(HANG)
            assert await child.receive() == (list(range(10)), "QueueShutDown")
            await child.join()


async def test_a_reader_that_comes_back_after_its_eviction_by_death_gets_a_gap() -> None:
    options = {"peer_timeout": SOON, "on_reader_death": "evict"}
    async with remote_queue(2, 1, **options) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as local,
            Child(read_to_the_end, queue.handle, 1) as child,
        ):
            await queue.wait_until_ready(HANG)
            assert await local.receive() == await child.receive() == "ready"
            await queue.enqueue(0)
            await consumed(queue)
            child.signal(signal.SIGSTOP)
            await until(lambda: len(queue.stats().readers) == 1)
            for number in range(1, 10):
                await queue.enqueue(number, timeout=HANG)
            child.signal(signal.SIGCONT)
            await until(lambda: len(queue.stats().readers) == 2)
            for number in range(10, 20):
                await queue.enqueue(number, timeout=HANG)
            await queue.aclose(HANG)
            assert await local.receive() == (list(range(20)), "QueueShutDown")
            expected = [0, ("gap", 1, 9), *range(10, 20)]
            assert await child.receive() == (expected, "QueueShutDown")
            await local.join()
            await child.join()


async def write_and_wait(pipe: Pipe, n_local_reader: int, messages: list[Any]) -> None:
    """Write messages, report it, and stay."""
    async with remote_queue(1 + n_local_reader, n_local_reader, peer_timeout=SOON) as queue:
        pipe.send(queue.handle)
        for message in messages:
            await queue.enqueue(message)
        pipe.send("written")
        await pipe.receive()


async def test_a_reader_gets_all_that_came_from_a_killed_writer_and_then_writer_died() -> None:
    messages = [*range(200), body(0, 2 * PIECE)]
    with Child(write_and_wait, 0, messages) as child:
        handle = await child.receive()
        async with MessageQueue.create_from_handle(handle, 0) as reader:
            for number in range(50):
                assert await reader.dequeue(HANG) == number
            assert await child.receive() == "written"
            await asyncio.sleep(0.2)  # on loopback it is all here by now
            began = time.monotonic()
            await child.kill()
            for message in messages[50:]:
                assert await reader.dequeue(HANG) == message
            with pytest.raises(WriterDied, match=r"message 200\b") as caught:
                await reader.dequeue(HANG)
            assert time.monotonic() - began < LATE
            assert caught.value.pid == child.pid
            with pytest.raises(WriterDied):
                reader.dequeue_nowait()


async def test_a_reader_that_comes_after_the_death_hears_that_the_writer_died() -> None:
    with Child(write_and_wait, 0, []) as child:
        handle = await child.receive()
        await child.kill()
    async with MessageQueue.create_from_handle(handle, 0) as reader:
        began = time.monotonic()
        with pytest.raises(WriterDied, match=rf"refused.* at {handle.address}"):
            await reader.dequeue(HANG)
        assert SOON * 0.9 < time.monotonic() - began < LATE


# -- only busy ---------------------------------------------------------------------------


async def read_blocked(pipe: Pipe, handle: Handle, seconds: float) -> None:
    """Read to the end, and do a long computation after the first message."""
    async with MessageQueue.create_from_handle(handle, 0) as queue:
        got = [await queue.dequeue(HANG)]
        time.sleep(seconds)  # noqa: ASYNC251
        more, ended = await read_all(queue)
        pipe.send((got + more, ended))


async def write_blocked(pipe: Pipe, seconds: float) -> None:
    """Write a few messages, with a long computation between them."""
    async with remote_queue(peer_timeout=1.0) as queue:
        pipe.send(queue.handle)
        for number in range(20):
            await queue.enqueue(number)
            if number == 10:
                time.sleep(seconds)  # noqa: ASYNC251
        await queue.aclose(HANG)


async def test_a_loop_that_is_blocked_for_seconds_is_no_death_at_either_end() -> None:
    seconds = 3.0
    async with remote_queue(peer_timeout=1.0) as queue:
        with (
            Child(read_blocked, queue.handle, seconds) as busy_reader,
            Child(write_blocked, seconds) as busy_writer,
        ):

            async def to_the_busy() -> None:
                began = time.monotonic()
                number = 0
                while time.monotonic() - began < seconds + 1:
                    await queue.enqueue(number)
                    assert queue.stats().dead == ()
                    number += 1
                    await asyncio.sleep(0.01)
                await queue.aclose(HANG)
                assert await busy_reader.receive() == (list(range(number)), "QueueShutDown")

            async def from_the_busy() -> None:
                handle = await busy_writer.receive()
                async with MessageQueue.create_from_handle(handle, 0) as reader:
                    assert await read_all(reader) == (list(range(20)), "QueueShutDown")

            await asyncio.gather(to_the_busy(), from_the_busy())
            await busy_reader.join()
            await busy_writer.join()


async def test_a_writer_and_readers_in_one_blocked_loop_stay_together() -> None:
    async with gathered(2, 1, peer_timeout=SOON) as (writer, readers):
        await writer.enqueue("before")
        time.sleep(4 * SOON)  # noqa: ASYNC251
        await writer.enqueue("after")
        for reader in readers:
            assert await reader.dequeue(HANG) == "before"
            assert await reader.dequeue(HANG) == "after"
        assert {peer.pid for peer in writer.stats().readers} == {os.getpid()}
