"""The public calls: what each end takes, gives, refuses, and says while it does."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from aioshm import (
    AioshmError,
    Backoff,
    DecodeError,
    Handle,
    MessageQueue,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    Reader,
    ReaderDied,
    Writer,
    WriterDied,
    WrongEnd,
)
from tests.helpers import HANG, pair, until


async def test_the_two_ends_are_message_queues_and_message_queue_itself_is_neither() -> None:
    with pytest.raises(TypeError, match=r"MessageQueue\.create\(.*create_from_handle"):
        MessageQueue()  # type: ignore[abstract]
    writer, reader = await pair()
    async with writer, reader:
        assert isinstance(writer, Writer)
        assert isinstance(reader, Reader)
        assert isinstance(writer, MessageQueue)
        assert isinstance(reader, MessageQueue)


def test_both_factories_need_no_running_loop() -> None:
    writer = MessageQueue.create()
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    with pytest.raises(QueueFull):
        writer.enqueue_nowait("too early")
    with pytest.raises(QueueEmpty):
        reader.dequeue_nowait()

    async def close() -> None:
        await writer.aclose()
        await reader.aclose()

    asyncio.run(close())


async def test_a_call_for_the_other_end_says_which_end_this_is() -> None:
    writer, reader = await pair()
    async with writer, reader:
        with pytest.raises(WrongEnd, match="dequeue belongs to the readers.*writer of queue"):
            await writer.dequeue()
        with pytest.raises(WrongEnd, match="dequeue_nowait"):
            writer.dequeue_nowait()
        with pytest.raises(WrongEnd, match="acquire_read"):
            writer.acquire_read()
        with pytest.raises(WrongEnd, match="async for"):
            async for _ in writer:
                pass
        with pytest.raises(WrongEnd, match="enqueue belongs to the writer.*reader rank 0"):
            await reader.enqueue(1)
        with pytest.raises(WrongEnd, match="enqueue_nowait"):
            reader.enqueue_nowait(1)
        with pytest.raises(WrongEnd, match="acquire_write"):
            reader.acquire_write(1)
        with pytest.raises(WrongEnd, match="evict"):
            reader.evict(0)
        with pytest.raises(WrongEnd, match="export_handle"):
            reader.export_handle()


async def test_broadcast_object_is_the_same_call_at_both_ends() -> None:
    writer, reader = await pair()
    async with writer, reader:
        ends: list[tuple[MessageQueue, Any]] = [(writer, {"weights": 3}), (reader, None)]
        got = await asyncio.gather(*(end.broadcast_object(obj) for end, obj in ends))  # type: ignore[attr-defined]
        assert got == [{"weights": 3}, {"weights": 3}]


async def test_async_for_ends_when_the_writer_closes() -> None:
    writer, reader = await pair()
    async with reader:
        for number in range(5):
            await writer.enqueue(number)
        await writer.aclose()
        assert [obj async for obj in reader] == [0, 1, 2, 3, 4]
        with pytest.raises(QueueShutDown, match="everything it wrote was read"):
            await reader.dequeue()
        with pytest.raises(QueueShutDown):
            reader.dequeue_nowait()


async def test_before_ready_nowait_raises_and_an_awaiting_call_waits() -> None:
    async with MessageQueue.create(2) as writer:
        with pytest.raises(QueueFull, match=r"waiting for ranks \[0, 1\] to join"):
            writer.enqueue_nowait("x")
        waiting = asyncio.create_task(writer.enqueue("first"))
        async with MessageQueue.create_from_handle(writer.handle, 0) as a:
            with pytest.raises(TimeoutError, match="the other readers to join"):
                await a.wait_until_ready(0.05)
            with pytest.raises(QueueEmpty):
                a.dequeue_nowait()
            with pytest.raises(TimeoutError, match=r"ranks \[1\] to join, of \[0, 1\]"):
                await writer.wait_until_ready(0.05)
            async with MessageQueue.create_from_handle(writer.handle, 1) as b:
                assert await a.dequeue(HANG) == await b.dequeue(HANG) == "first"
                await waiting


async def test_tasks_get_messages_first_come_first_served() -> None:
    writer, reader = await pair()
    async with writer, reader:
        order: list[tuple[int, int]] = []

        async def take(task: int) -> None:
            order.append((task, await reader.dequeue(HANG)))

        tasks = [asyncio.create_task(take(task)) for task in range(20)]
        await asyncio.sleep(0)
        for number in range(20):
            await writer.enqueue(number)
            with pytest.raises(QueueEmpty, match="other tasks wait"):
                reader.dequeue_nowait()
        await asyncio.gather(*tasks)
        assert order == [(number, number) for number in range(20)]


async def test_a_closed_end_refuses_every_call_and_closes_twice() -> None:
    writer, reader = await pair()
    for end in (reader, writer):
        assert not end.closed
        await end.aclose()
        await end.aclose()
        assert end.closed
    with pytest.raises(QueueShutDown, match="was closed"):
        await writer.enqueue(1)
    with pytest.raises(QueueShutDown):
        writer.enqueue_nowait(1)
    with pytest.raises(QueueShutDown):
        writer.evict(0)
    with pytest.raises(QueueShutDown):
        await writer.wait_until_ready()
    with pytest.raises(QueueShutDown):
        await reader.dequeue()
    with pytest.raises(QueueShutDown):
        reader.dequeue_nowait()
    assert writer.stats().messages == reader.stats().messages == 0


async def test_closing_an_end_ends_the_waits_at_it() -> None:
    writer, reader = await pair(max_chunk_bytes=100, max_chunks=2)
    reads = [asyncio.create_task(reader.dequeue()) for _ in range(3)]
    await until(lambda: reader.stats().waits.parks)
    await reader.aclose()
    for task in reads:
        with pytest.raises(QueueShutDown):
            await task
    unready = MessageQueue.create()
    writes = [asyncio.create_task(unready.enqueue(1)) for _ in range(3)]
    await asyncio.sleep(0)
    await unready.aclose()
    for task in writes:
        with pytest.raises(QueueShutDown):
            await task
    await writer.aclose()


def test_a_call_from_a_later_loop_is_refused() -> None:
    async def use(writer: Writer, reader: Reader) -> None:
        for call in (writer.enqueue(1), reader.dequeue(), writer.wait_until_ready()):
            with pytest.raises(RuntimeError, match="bound to another event loop"):
                await call

    ends = asyncio.run(pair())
    asyncio.run(use(*ends))
    with pytest.warns(ResourceWarning):
        del ends
        gc.collect()


async def test_joining_and_leaving_is_logged_and_messages_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "aioshm")
    writer, reader = await pair(name="steps")
    async with writer:
        async with reader:
            before = len(caplog.records)
            for number in range(10):
                await writer.enqueue(number)
                assert await reader.dequeue(HANG) == number
            assert len(caplog.records) == before
        await until(lambda: not writer.stats().readers)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert any(level == "INFO" and "rank 0 joined" in text for level, text in said)
    assert any(level == "INFO" and "rank 0 left" in text for level, text in said)
    assert any(level == "DEBUG" and "listens at" in text for level, text in said)
    assert not any(writer.handle.token in text for _, text in said)


async def test_a_writer_that_waits_says_who_holds_it_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backoff = Backoff(max_sleep=0.02, min_sleep=0.02)
    writer, reader = await pair(max_chunk_bytes=100, max_chunks=2, warn_after=0.05, backoff=backoff)
    async with writer, reader:
        with pytest.raises(TimeoutError, match=r"rank 0 \(pid \d+\) is \d+ bytes behind"):
            while True:
                await writer.enqueue("x" * 60, timeout=0.3)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert 2 <= len(warnings) <= 6
    assert all("rank 0" in text and "compilation" in text for text in warnings)


class Shout:
    """A codec of one's own."""

    def encode(self, obj: Any) -> list[bytes]:
        return [str(obj).upper().encode()]

    def decode(self, frames: Any) -> str:
        return bytes(frames[0]).decode()


async def test_a_codec_of_ones_own_travels_in_the_handle() -> None:
    writer = MessageQueue.create(codec=Shout())
    handle = Handle.from_string(writer.handle.to_string())
    reader = MessageQueue.create_from_handle(handle, 0)
    async with writer, reader:
        await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
        await writer.enqueue("hello")
        assert await reader.dequeue(HANG) == "HELLO"


def test_every_error_of_the_package_has_one_base() -> None:
    for error in (QueueFull, QueueEmpty, ReaderDied, WriterDied, DecodeError, WrongEnd):
        assert issubclass(error, AioshmError)


async def test_a_reader_that_hears_of_a_message_before_it_hears_ready_does_not_spin() -> None:
    async with MessageQueue.create() as writer:
        reader = MessageQueue.create_from_handle(writer.handle, 0)
        async with reader:
            ready, reader.ready = reader.ready, lambda: None  # type: ignore[method-assign]
            waiting = asyncio.create_task(reader.dequeue(HANG))
            await writer.enqueue("early", timeout=HANG)
            for _ in range(100):  # each of these turns needs the loop to be let go
                await asyncio.sleep(0)
            assert not waiting.done()
            ready()
            assert await waiting == "early"
