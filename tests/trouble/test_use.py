"""Ends that are used the wrong way: closed, forked, elsewhere, too early, interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from aioshm import MessageQueue, QueueShutDown, Reader, ReaderDied, Writer, WriterDied
from tests.helpers import HANG, pair, until
from tests.trouble.cases import case
from tests.trouble.forked import in_forked_child
from tests.trouble.hooks import Hook

SMALL: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}


def awaiting_calls(writer: Writer, reader: Reader) -> list[Callable[[], Awaitable[object]]]:
    """Every awaiting call of both ends."""
    return [
        lambda: writer.enqueue("x"),
        lambda: writer.broadcast_object("x"),
        lambda: writer.acquire_write(10).__aenter__(),
        writer.wait_until_ready,
        reader.dequeue,
        reader.broadcast_object,
        lambda: reader.acquire_read().__aenter__(),
        reader.__anext__,
        reader.wait_until_ready,
    ]


def calls_at_once(writer: Writer, reader: Reader) -> list[Callable[[], object]]:
    """Every call that does not wait and needs the queue."""
    return [lambda: writer.enqueue_nowait("x"), lambda: writer.evict(0), reader.dequeue_nowait]


@case(18, "use after close", "double close", "close during a wait", "from __del__ only")
async def test_closing(how: str) -> None:
    ends: list[Any] = list(await pair(**SMALL))
    writer, reader = ends
    if how == "from __del__ only":
        del writer, reader
        await _only_dropped(ends)
        return
    if how == "close during a wait":
        await _close_during_waits(writer, reader)
    await asyncio.gather(writer.aclose(), reader.aclose(), writer.aclose(), reader.aclose())
    for end in (writer, reader) * 2:
        await end.aclose()
        assert end.closed
        with pytest.raises(QueueShutDown, match="was closed"):
            async with end:
                await end.wait_until_ready()
    for call in awaiting_calls(writer, reader):
        with pytest.raises((QueueShutDown, StopAsyncIteration)) as caught:
            await call()
        assert "was closed" in str(caught.value) or caught.type is StopAsyncIteration
    for at_once in calls_at_once(writer, reader):
        with pytest.raises(QueueShutDown, match="(reader rank 0|writer) of queue .* was closed"):
            at_once()


async def _close_during_waits(writer: Writer, reader: Reader) -> None:
    reads = [asyncio.create_task(reader.dequeue()) for _ in range(3)]
    await until(lambda: reader.stats().waits.parks)
    await reader.aclose()
    async with MessageQueue.create_from_handle(writer.handle, 0) as another:
        await until(lambda: not writer.stats().readers)
        await another.wait_until_ready(HANG)
        with contextlib.suppress(asyncio.QueueFull):
            while True:
                writer.enqueue_nowait(bytes(1000))
        writes = [asyncio.create_task(writer.enqueue(bytes(1000))) for _ in range(3)]
        await until(lambda: writer.stats().waits.parks)
        await writer.aclose()
        for task in reads + writes:
            with pytest.raises(QueueShutDown, match="was closed"):
                await task
        got = [message async for message in another]
        assert got == [bytes(1000)] * writer.stats().messages


async def _only_dropped(ends: list[Any]) -> None:
    with pytest.warns(ResourceWarning, match=r"reader rank 0 of .* was not closed"):
        ends.pop()
        gc.collect()
    with pytest.raises(ReaderDied, match=r"rank 0 \(pid \d+\) died"):
        await until(lambda: ends[0].enqueue_nowait("x"))
    async with MessageQueue.create_from_handle(ends[0].handle, 0) as reader:
        await reader.wait_until_ready(HANG)
        await ends[0].enqueue("what was written")
        with pytest.warns(ResourceWarning, match="writer of queue .* was not closed"):
            ends.pop()
            gc.collect()
        assert await reader.dequeue(HANG) == "what was written"
        with pytest.raises(WriterDied, match="died; everything it had written"):
            await reader.dequeue(HANG)


def _run(call: Callable[[], Awaitable[object]]) -> object:
    async def run() -> object:
        return await call()

    return asyncio.run(run())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@case(19)
async def test_in_a_forked_child(how: str) -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("before")
        calls = calls_at_once(writer, reader)
        awaiting = [*awaiting_calls(writer, reader), writer.aclose, reader.aclose]
        calls += [partial(_run, call) for call in awaiting]
        for call in calls:
            said = await in_forked_child(call)
            assert said.startswith("ForkedQueue: "), said
            assert f"(pid {os.getpid()})" in said or "reader rank 0" in said
            assert "make or join a queue in the child itself" in said
        assert await reader.dequeue(HANG) == "before"
        waiting = asyncio.create_task(reader.dequeue())
        await until(lambda: reader.stats().waits.parks)
        await in_forked_child(lambda: None)
        await writer.enqueue("after")
        assert await waiting == "after"
        assert reader.stats().waits.rescues == 0


@case(20, "another loop", "another thread")
async def test_elsewhere(how: str) -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("there")
        text = "(writer|reader rank 0) of queue .* bound to another event loop or thread; from a "

        async def elsewhere() -> None:
            for call in (*awaiting_calls(writer, reader), writer.aclose, reader.aclose):
                with pytest.raises(RuntimeError, match=f"{text}thread use asyncio.run_coroutine"):
                    await call()

        def without_a_loop() -> None:
            for call in calls_at_once(writer, reader):
                with pytest.raises(RuntimeError, match=f"{text}|no running event loop"):
                    call()

        if how == "another loop":
            await asyncio.to_thread(asyncio.run, elsewhere())
        else:
            await asyncio.to_thread(without_a_loop)
        assert writer.stats().messages == 1
        assert await reader.dequeue(HANG) == "there"


@case(21, "the writer", "a reader", "both")
async def test_cancel_while_joining(how: str) -> None:
    for turns in range(12):
        async with MessageQueue.create() as writer:
            async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
                ends: list[Writer | Reader] = [writer, reader]
                if how != "both":
                    ends.remove(reader if how == "the writer" else writer)
                waits = [asyncio.create_task(end.wait_until_ready()) for end in ends]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0):
                        await writer.wait_until_ready()
                await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
                await writer.enqueue(turns)
                assert await reader.dequeue(HANG) == turns


@case(22)
async def test_missing_ranks(how: str) -> None:
    async with MessageQueue.create(4, local_reader_ranks=[2, 3, 5, 7], name="steps") as writer:
        async with (
            MessageQueue.create_from_handle(writer.handle, 3) as a,
            MessageQueue.create_from_handle(writer.handle, 7) as b,
        ):
            for reader in (a, b):
                text = rf"reader rank {reader.rank} of queue 'steps' .*the other readers to join"
                with pytest.raises(TimeoutError, match=text):
                    await reader.wait_until_ready(0.05)
            text = r"writer of queue 'steps' .*ranks \[2, 5\] to join, of \[2, 3, 5, 7\]"
            for call in (writer.wait_until_ready(0.05), writer.enqueue("x", timeout=0.05)):
                with pytest.raises(TimeoutError, match=text):
                    await call
            with pytest.raises(asyncio.QueueFull, match=text):
                writer.enqueue_nowait("x")
    lonely = MessageQueue.create(name="busy")
    async with MessageQueue.create_from_handle(lonely.handle, 0) as reader:
        with pytest.raises(TimeoutError, match=r"the writer \(pid \d+\) to let it in: is its loop"):
            await reader.wait_until_ready(0.05)
    await lonely.aclose()


def _interrupt() -> None:
    raise KeyboardInterrupt


@case(27, "in enqueue", "in dequeue")
@pytest.mark.usefixtures("python_ring")
async def test_interrupt(how: str) -> None:
    interrupted = 0
    while await (_interrupt_writer if how == "in enqueue" else _interrupt_reader)(interrupted + 1):
        interrupted += 1
    assert interrupted >= 6  # store, fence, look at the flags, clear one, ring, and more


async def _interrupt_writer(moment: int) -> bool:
    """Interrupt a write to a parked reader; the next one brings all that was written."""
    writer, reader = await pair()
    async with writer, reader:
        waiting = asyncio.create_task(reader.dequeue())
        await until(lambda: reader._waiter._sleeper and reader._waiter.parks)
        hook = Hook(moment, _interrupt)
        interrupted = False
        try:
            writer.enqueue_nowait("first")
        except KeyboardInterrupt:
            interrupted = True
        finally:
            hook.take_off()
        await writer.enqueue("second")
        got = [await waiting]
        with contextlib.suppress(asyncio.QueueEmpty):
            got.append(reader.dequeue_nowait())
        assert got == ["first", "second"] or (interrupted and got == ["second"])
        assert reader.stats().waits.bells, "it was not rung, but found it by its timer"
        return interrupted


async def _interrupt_reader(moment: int) -> bool:
    """Interrupt the read that makes room for a parked writer; the next one wakes it."""
    writer, reader = await pair(**SMALL)
    async with writer, reader:
        written = 0
        with contextlib.suppress(asyncio.QueueFull):
            while True:
                writer.enqueue_nowait((written, bytes(4000)))
                written += 1
        waiting = asyncio.create_task(writer.enqueue((written, bytes(4000))))
        await until(lambda: writer._waiter._sleeper and writer._waiter.parks)
        hook = Hook(moment, _interrupt)
        got, interrupted = [], False
        try:
            got.append(reader.dequeue_nowait()[0])
        except KeyboardInterrupt:
            interrupted = True
        finally:
            hook.take_off()
        for _ in itertools.repeat(None, written):
            with contextlib.suppress(asyncio.QueueEmpty):
                got.append(reader.dequeue_nowait()[0])
        await asyncio.wait_for(waiting, HANG)
        with contextlib.suppress(asyncio.QueueEmpty):
            got.append(reader.dequeue_nowait()[0])
        # The message in the caller's hands at the interrupt went with it, and only that one.
        everything = list(range(written + 1))
        assert got == everything or (interrupted and got == everything[1:])
        assert writer.stats().waits.bells, "it was not rung, but found it by its timer"
        return interrupted
