"""Readers that are killed: at whatever moment, the writer hears of it and the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal

import pytest

from aioshm import Handle, MessageQueue, ReaderDied, Writer
from aioshm.links import hello
from tests.helpers import HANG, Child, Pipe, until
from tests.links import Stranger
from tests.trouble.cases import case
from tests.trouble.forked import Forked
from tests.trouble.hooks import Hook, die

BODY = bytes(range(256)) * 4


async def read_all(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read to the end, and report what was read."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        pipe.send([message async for message in queue])


async def park(pipe: Pipe, handle: Handle) -> None:
    """Read one message, and wait for what is to come."""
    async with MessageQueue.create_from_handle(handle, 1) as queue:
        await queue.dequeue(HANG)
        waiting = asyncio.create_task(queue.dequeue())
        await until(lambda: queue.stats().waits.parks > 1 and queue._waiter._sleeper)
        pipe.send("now")
        await waiting


async def lease(pipe: Pipe, handle: Handle) -> None:
    """Lease the first message, and keep it."""
    async with MessageQueue.create_from_handle(handle, 1) as queue:
        async with queue.acquire_read(HANG) as held:
            pipe.send("now")
            await asyncio.sleep(HANG)
            assert held.load()


async def read_and_die(pipe: Pipe, handle: Handle, moment: int) -> None:
    """Die at a moment of reading the first message, or report how many there are."""
    async with MessageQueue.create_from_handle(handle, 1) as queue:
        await queue.wait_until_ready(HANG)
        pipe.receive_blocking()  # the message is there
        hook = Hook(moment, die)
        await queue.dequeue(HANG)
        hook.take_off()
        pipe.send(hook.count)


async def goes_on_without(queue: Writer, dead: Child, survivor: Child) -> None:
    """Look that the death is told, and that with it nothing else was lost."""
    await until(lambda: queue.stats().dead)
    position = queue.stats().position
    text = rf"reader rank 1 \(pid {dead.pid}\) died, .* rank again or evict\(1\) is called"
    for _ in range(2):
        with pytest.raises(ReaderDied, match=text) as caught:
            await queue.enqueue("never")
        assert (caught.value.rank, caught.value.pid) == (1, dead.pid)
    assert queue.stats().position == position
    queue.evict(1)
    await queue.enqueue("last", timeout=HANG)
    await queue.aclose()
    assert await survivor.receive() == [(0, BODY), "last"]
    await survivor.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@case(23, "while parked", "while reading", "while holding a lease", "during admission")
@pytest.mark.usefixtures("python_ring")
async def test_reader_killed(how: str) -> None:
    if how == "while reading":
        await _while_reading()
    elif how == "during admission":
        for stage in ("connected", "said hello", "let in"):
            await _during_admission(stage)
    else:
        function = park if how == "while parked" else lease
        async with MessageQueue.create(2) as queue:
            with Child(read_all, queue.handle, 0) as other, Child(function, queue.handle) as child:
                await queue.enqueue((0, BODY), timeout=HANG)
                assert await child.receive() == "now"
                await child.kill()
                await goes_on_without(queue, child, other)


async def _while_reading() -> None:
    """Kill one reader of rank 1 after the other, each a moment later than the one before."""
    async with (
        MessageQueue.create(2, max_chunk_bytes=4096, max_chunks=2) as queue,
        MessageQueue.create_from_handle(queue.handle, 0) as other,
    ):
        joining = asyncio.create_task(other.wait_until_ready(HANG))
        for moment in itertools.count(1):
            with Forked(read_and_die, queue.handle, moment) as child:
                await until(lambda: 1 in {reader.rank for reader in queue.stats().readers})
                await joining
                await queue.enqueue((moment, BODY), timeout=HANG)
                assert await other.dequeue(HANG) == (moment, BODY)
                child.pipe.send("read")
                with contextlib.suppress(EOFError):
                    assert await child.receive() == moment - 1 >= 6
                    await child.join()
                    break
                await until(lambda: queue.stats().dead)
                with pytest.raises(ReaderDied, match=rf"rank 1 \(pid {child.pid}\) died"):
                    await queue.enqueue("never")
                await child.join(expect=-signal.SIGKILL)


async def knock(pipe: Pipe, handle: Handle, stage: str) -> None:
    """Go so far on the way in, and stay there."""
    with Stranger(handle.path) as stranger:
        if stage != "connected":
            stranger.sock.send(hello.pack_hello(0, os.getpid(), bytes.fromhex(handle.token)))
        if stage == "let in":
            assert await stranger.receive()
        pipe.send("now")
        await asyncio.sleep(HANG)


async def _during_admission(stage: str) -> None:
    queue = MessageQueue.create()
    with Child(knock, queue.handle, stage) as child:
        if stage == "let in":
            queue._bind()
        assert await child.receive() == "now"
        await child.kill()
    async with queue:
        if stage != "connected":
            await until(lambda: queue.stats().dead)
            with pytest.raises(ReaderDied, match=rf"rank 0 \(pid {child.pid}\) died"):
                await queue.wait_until_ready(HANG)
        async with MessageQueue.create_from_handle(queue.handle, 0) as reader:
            await reader.wait_until_ready(HANG)
            await queue.enqueue("all is well", timeout=HANG)
            assert await reader.dequeue(HANG) == "all is well"
        await until(lambda: not queue._roster.slots)
