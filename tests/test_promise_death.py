"""Promises 5, 6 and 7: a death is known at once, the rank can be taken again, nothing stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from aioshm import Handle, MessageQueue, QueueShutDown, ReaderDied, WriterDied
from aioshm.links.folder import folder, listen, sweep
from tests.helpers import HANG, Child, Pipe, descriptors, until

KNOWN_WITHIN = 1.0  # ten times the promise


async def read_some(pipe: Pipe, handle: Handle, rank: int, count: int) -> None:
    """Read `count` messages, report them, and wait for what never comes."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        pipe.send([await queue.dequeue(HANG) for _ in range(count)])
        await queue.dequeue()


async def read_to_the_end(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read until an error ends it; report what was read, the error and when it came."""
    got: list[Any] = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        try:
            while True:
                got.append(await queue.dequeue())
        except (WriterDied, QueueShutDown) as error:
            pipe.send((got, type(error).__name__, time.monotonic()))


async def stuff_ring(queue: Any) -> None:
    while True:
        await queue.enqueue(bytes(1000))


async def test_a_waiting_writer_learns_of_a_killed_reader_at_once() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=4096, max_chunks=2) as queue:
        with Child(read_some, queue.handle, 0, 1) as a, Child(read_some, queue.handle, 1, 1) as b:
            await queue.wait_until_ready(HANG)
            await queue.enqueue("hello")
            await a.receive()
            await b.receive()
            b.signal(signal.SIGSTOP)  # it holds the ring, so the writer gets to wait
            waiting = asyncio.create_task(stuff_ring(queue))
            await until(lambda: queue.stats().waits.parks)
            killed = time.monotonic()
            b.signal(signal.SIGKILL)
            with pytest.raises(ReaderDied, match=rf"rank 1 \(pid {b.pid}\)") as caught:
                await waiting
            assert time.monotonic() - killed < KNOWN_WITHIN
            assert (caught.value.rank, caught.value.pid) == (1, b.pid)
            await b.join(expect=-signal.SIGKILL)


async def test_after_a_death_enqueue_raises_and_writes_nothing_until_the_rank_is_evicted() -> None:
    async with MessageQueue.create(2) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(read_some, queue.handle, 1, 1) as b,
        ):
            await queue.wait_until_ready(HANG)
            await a.receive()
            await queue.enqueue("first")
            await b.receive()
            await b.kill()
            await until(lambda: queue.stats().dead)
            position = queue.stats().position
            for _ in range(3):
                with pytest.raises(ReaderDied):
                    await queue.enqueue("never")
                with pytest.raises(ReaderDied):
                    queue.enqueue_nowait("never")
            with pytest.raises(ReaderDied):
                async with queue.acquire_write(10):
                    pass
            assert queue.stats().position == position
            queue.evict(1)
            await queue.enqueue("second")
            await queue.aclose()
            assert (await a.receive())[:2] == (["first", "second"], "QueueShutDown")
            await a.join()


async def test_with_evict_the_writer_goes_on_without_the_dead_reader(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = MessageQueue.create(
        2, max_chunk_bytes=4096, max_chunks=2, on_reader_death="evict", name="steps"
    )
    async with queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(read_some, queue.handle, 1, 0) as b,
        ):
            await queue.wait_until_ready(HANG)
            await a.receive()
            await b.receive()
            b.signal(signal.SIGKILL)
            sent = list(range(2000))
            for number in sent:
                await queue.enqueue(number, timeout=HANG)
            await b.join(expect=-signal.SIGKILL)
            await queue.aclose()
            assert (await a.receive())[:2] == (sent, "QueueShutDown")
            await a.join()
    assert [r.levelname for r in caplog.records if "died" in r.message] == ["WARNING"]


async def test_readers_get_everything_a_killed_writer_wrote_and_then_writer_died() -> None:
    with Child(write_and_wait, 200, 2) as writer:
        handle = await writer.receive()
        with Child(read_to_the_end, handle, 0) as a, Child(read_to_the_end, handle, 1) as b:
            assert await a.receive() == await b.receive() == "ready"
            assert await writer.receive() == "written"
            killed = time.monotonic()
            await writer.kill()
            for child in (a, b):
                got, ended, when = await child.receive()
                assert got == list(range(200))
                assert ended == "WriterDied"
                assert when - killed < KNOWN_WITHIN
                await child.join()
    sweep(folder())


async def write_and_wait(pipe: Pipe, count: int, readers: int) -> None:
    """Write `count` messages, report it, and stay."""
    async with MessageQueue.create(readers) as queue:
        pipe.send(queue.handle)
        await queue.wait_until_ready(HANG)
        for number in range(count):
            await queue.enqueue(number)
        pipe.send("written")
        await pipe.receive()


async def test_a_reader_that_comes_after_the_death_hears_that_the_writer_died() -> None:
    with Child(write_and_wait, 0, 1) as writer:
        handle = await writer.receive()
        await writer.kill()
    async with MessageQueue.create_from_handle(handle, 0) as reader:
        with pytest.raises(WriterDied, match="get a fresh handle"):
            await reader.dequeue(HANG)
        with pytest.raises(WriterDied):
            await reader.wait_until_ready(HANG)
    # The dead writer's socket file is swept by the next one.
    assert Path(handle.path).exists()
    async with MessageQueue.create() as queue:
        assert not Path(handle.path).exists()
        assert Path(queue.handle.path).exists()


async def test_the_rank_of_a_dead_reader_is_taken_again_and_starts_with_the_next_message() -> None:
    async with MessageQueue.create(2) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(read_some, queue.handle, 1, 3) as b,
        ):
            await queue.wait_until_ready(HANG)
            await a.receive()
            for number in range(3):
                await queue.enqueue(number)
            assert await b.receive() == [0, 1, 2]
            await b.kill()
            with Child(read_to_the_end, queue.handle, 1) as c:
                assert await c.receive() == "ready"
                for number in range(3, 6):
                    await queue.enqueue(number, timeout=HANG)
                await queue.aclose()
                assert (await a.receive())[0] == [0, 1, 2, 3, 4, 5]
                assert (await c.receive())[0] == [3, 4, 5]
                await a.join()
                await c.join()


async def test_evicting_a_dead_rank_leaves_alone_who_has_its_slot_by_now() -> None:
    async with MessageQueue.create(2) as queue:
        with (
            Child(read_some, queue.handle, 0, 0) as a,
            Child(read_some, queue.handle, 1, 0) as b,
        ):
            await queue.wait_until_ready(HANG)
            await a.receive()
            await b.receive()
            await a.kill()
            await b.kill()
            # Both exits are noticed, so both slots are free, and both deaths undecided.
            await until(lambda: len(queue.stats().dead) == 2 and not queue._roster.slots)
            before = {member.rank: member.slot for member in queue._roster.dead.values()}
            # The next to come takes the lowest slot; the rank it did not have is evicted.
            other = min(before, key=before.__getitem__)
            rank = 1 - other
            with Child(read_to_the_end, queue.handle, rank) as c:
                await until(lambda: rank in queue._roster.live)
                assert queue._roster.live[rank].slot == before[other]
                queue.evict(other)
                assert await c.receive() == "ready"
                await queue.enqueue("for those who live")
                assert [peer.rank for peer in queue.stats().readers] == [rank]
                await queue.aclose()
                assert (await c.receive())[:2] == (["for those who live"], "QueueShutDown")
                await c.join()


async def knock(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Ask to be let in, say so, and wait."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        pipe.send("knocked")
        await queue.wait_until_ready(HANG)


async def test_a_reader_that_is_gone_before_it_is_let_in_holds_nothing() -> None:
    async with MessageQueue.create(1) as queue:
        await asyncio.sleep(0)
        before = descriptors()
        for _ in range(3):
            with Child(knock, queue.handle, 0) as reader:
                # Nothing is awaited, so that the writer's loop finds the hello of a dead one.
                assert reader.pipe.receive_blocking() == "knocked"
                reader.process.kill()
                reader.process.wait(HANG)
            await until(lambda: queue.stats().dead and not queue._roster.slots)
            assert descriptors() == before
            queue.evict(0)


async def test_a_reader_that_says_goodbye_frees_its_rank_and_nobody_raises() -> None:
    async with MessageQueue.create(1, max_chunk_bytes=4096, max_chunks=2) as queue:
        for lap in range(150):  # more often than there are slots
            async with MessageQueue.create_from_handle(queue.handle, 0) as reader:
                await reader.wait_until_ready(HANG)
                await queue.enqueue(lap)
                assert await reader.dequeue(HANG) == lap
            await until(lambda: not queue.stats().readers)
            for _ in range(20):
                await queue.enqueue(bytes(1000), timeout=HANG)  # nobody is waited for


async def test_a_killed_writer_leaves_no_memory_and_a_dead_socket_that_is_swept() -> None:
    before = set(os.listdir("/dev/shm"))
    with Child(write_and_wait, 0, 1) as writer:
        handle = await writer.receive()
        names = {name for name in os.listdir("/dev/shm") if "queue" in name or "aioshm" in name}
        assert names <= before, "a segment with a name outlives its processes"
        await writer.kill()
    assert list(folder().iterdir()) == [Path(handle.path)]
    listener, path = listen("next", 1)
    with listener:
        assert list(folder().iterdir()) == [Path(path)]
        Path(path).unlink()


@pytest.mark.parametrize("decision", ["evict", "taken again"])
async def test_what_is_decided_about_a_dead_reader_does_not_hit_who_has_its_slot_now(
    decision: str,
) -> None:
    async with MessageQueue.create(2) as queue:
        with Child(read_some, queue.handle, 1, 0) as dead:
            await until(lambda: queue.stats().readers)  # so it has the first slot
            async with MessageQueue.create_from_handle(queue.handle, 0) as leaver:
                await leaver.wait_until_ready(HANG)
            await dead.receive()
            await dead.kill()
        await until(lambda: queue.stats().dead and not queue._roster.slots)
        async with contextlib.AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(MessageQueue.create_from_handle(queue.handle, rank))
                for rank in range(1 if decision == "evict" else 2)
            ]
            await readers[0].wait_until_ready(HANG)
            if decision == "evict":
                queue.evict(1)
            else:
                await readers[1].wait_until_ready(HANG)
            await queue.enqueue("not for the dead", timeout=HANG)
            for reader in readers:
                assert await reader.dequeue(HANG) == "not for the dead"
            assert len(queue.stats().readers) == len(readers)
