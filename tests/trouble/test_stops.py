"""Processes that stop: for a while, until nobody waits for them any more, or for good."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from typing import Any

import pytest

from aioshm import Evicted, Handle, MessageQueue, QueueFull, Reader, ReaderDied
from tests.helpers import HANG, Child, Pipe, until
from tests.trouble.cases import case
from tests.trouble.forked import Forked
from tests.trouble.hooks import Hook

SMALL: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}
STOPS = 5


async def read_all(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Report each message's number, and the end."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        pipe.send([message[0] async for message in queue])


async def write_for_ever(pipe: Pipe) -> None:
    """Write numbers until told to close; report how many."""
    async with MessageQueue.create(**SMALL) as queue:
        pipe.send(queue.handle)
        told = asyncio.create_task(pipe.receive())
        number = 0
        while not told.done():
            await queue.enqueue((number, bytes(500)), timeout=HANG)
            number += 1
        await told
        pipe.send(number)


@case(25, "a reader", "the writer")
async def test_stop_and_cont(how: str) -> None:
    await (_stop_a_reader if how == "a reader" else _stop_the_writer)()


async def _stop_a_reader() -> None:
    async with MessageQueue.create(2, **SMALL) as queue:
        with Child(read_all, queue.handle, 0) as a, Child(read_all, queue.handle, 1) as b:
            await queue.wait_until_ready(HANG)
            number = 0
            for _ in range(STOPS):
                b.signal(signal.SIGSTOP)
                text = rf"waited .*the ring of \d+ bytes has no room: rank 1 \(pid {b.pid}\) is \d"
                with pytest.raises(TimeoutError, match=text):
                    while True:
                        await queue.enqueue((number, bytes(500)), timeout=0.1)
                        number += 1
                assert len(queue.stats().readers) == 2
                b.signal(signal.SIGCONT)
                for _ in range(20):
                    await queue.enqueue((number, bytes(500)), timeout=HANG)
                    number += 1
            await queue.aclose()
            for child in (a, b):
                assert await child.receive() == list(range(number))
                await child.join()


async def _stop_the_writer() -> None:
    with Child(write_for_ever) as writer:
        async with MessageQueue.create_from_handle(await writer.receive(), 0) as reader:
            got = []
            for _ in range(STOPS):
                got += [(await reader.dequeue(HANG))[0] for _ in range(50)]
                writer.signal(signal.SIGSTOP)
                with pytest.raises(TimeoutError, match=r"reader rank 0 .*waited .* for a message"):
                    while True:
                        got.append((await reader.dequeue(0.1))[0])
                writer.signal(signal.SIGCONT)
            writer.send("close")
            got += [message[0] async for message in reader]
            assert got == list(range(await writer.receive()))
            await writer.join()


async def read_and_stop(pipe: Pipe, handle: Handle, moment: int) -> None:
    """Stop at a moment of reading a message; report what comes of it, and of the next."""

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    async with MessageQueue.create_from_handle(handle, 0) as queue:
        await queue.wait_until_ready(HANG)
        pipe.receive_blocking()  # the message is there
        hook = Hook(moment, stop)
        for _ in range(2):
            try:
                said = await queue.dequeue(HANG)
            except Evicted as error:
                said = str(error)
            hook.take_off()
            pipe.send(said)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@case(26)
@pytest.mark.usefixtures("python_ring")
async def test_taken_again(how: str) -> None:
    """Whatever the moment it stops at, it hears of it, and its successor does not notice."""
    for moment in itertools.count(1):
        async with MessageQueue.create(1, **SMALL) as queue:
            with Forked(read_and_stop, queue.handle, moment) as old:
                await queue.enqueue(("old", bytes(1000)), timeout=HANG)
                old.pipe.send("read")
                if not await stops(old):
                    break
                queue.evict(0)
                async with MessageQueue.create_from_handle(queue.handle, 0) as new:
                    await new.wait_until_ready(HANG)
                    assert await _write_and_read(queue, new, 50) == list(range(50))
                    os.kill(old.pid, signal.SIGCONT)
                    # It had the message in its hands, or hears that it may be torn.
                    first, second = await old.receive(), await old.receive()
                    assert first == ("old", bytes(1000)) or "join again" in first
                    assert "reader rank 0 of queue" in second
                    assert "join again to get the next messages" in second
                    assert await _write_and_read(queue, new, 50) == list(range(50))
                await old.join()
    assert moment > 6


async def stops(child: Forked) -> bool:
    """Wait until a process has stopped, or said that it did not."""
    stopped = False

    def look() -> bool:
        nonlocal stopped
        stopped = os.waitpid(child.pid, os.WNOHANG | os.WUNTRACED)[0] == child.pid
        return stopped or child.pipe.ready()

    await until(look)
    return stopped


async def _write_and_read(queue: Any, reader: Reader, count: int) -> list[int]:
    got = []
    for number in range(count):
        await queue.enqueue((number, bytes(1000)), timeout=HANG)
        got.append((await reader.dequeue(HANG))[0])
    return got


@case(29, "evicted by hand", "evicted in time", "leaves", "is killed")
async def test_never_reads(how: str, caplog: pytest.LogCaptureFixture) -> None:
    after = 0.4 if how == "evicted in time" else None
    async with MessageQueue.create(2, warn_after=0.1, evict_after=after, **SMALL) as queue:
        with (
            Child(read_all, queue.handle, 0) as other,
            Child(join_and_never_read, queue.handle) as idle,
        ):
            await queue.wait_until_ready(HANG)
            written = 0
            with pytest.raises(TimeoutError, match="has no room"):
                while True:
                    await queue.enqueue((written, bytes(500)), timeout=0.2)
                    written += 1
            await until(lambda: not queue.stats().readers[0].behind)
            text = rf"has no room: rank 1 \(pid {idle.pid}\) is \d+ bytes behind"
            with pytest.raises(QueueFull, match=text):
                queue.enqueue_nowait((written, bytes(500)))
            waiting = asyncio.create_task(queue.enqueue((written, bytes(500)), timeout=HANG))
            await asyncio.sleep(0)
            if how == "evicted by hand":
                queue.evict(1)
            elif how == "leaves":
                idle.send("leave")
            elif how == "is killed":
                await idle.kill()
                with pytest.raises(ReaderDied, match=rf"rank 1 \(pid {idle.pid}\) died"):
                    await waiting
                queue.evict(1)
                waiting = asyncio.create_task(queue.enqueue((written, bytes(500)), timeout=HANG))
            await waiting
            await queue.aclose()
            assert await other.receive() == list(range(written + 1))
            await other.join()
            if how.startswith("evicted"):
                idle.send("leave")
            if how != "is killed":
                await idle.join()
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any(f"rank 1 (pid {idle.pid})" in text for text in warnings)


async def join_and_never_read(pipe: Pipe, handle: Handle) -> None:
    """Join, and leave when told."""
    async with MessageQueue.create_from_handle(handle, 1) as queue:
        await queue.wait_until_ready(HANG)
        await pipe.receive()
