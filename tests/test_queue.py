"""The public calls: what each end takes, gives, refuses, and says while it does."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import threading
from typing import Any

import pytest

from aioshm import (
    AioshmError,
    Backoff,
    DecodeError,
    EncodeError,
    Handle,
    MessageQueue,
    MessageTooLarge,
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


class Explosive:
    """Pickles well, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ("boom",)


def _explode(word: str) -> None:
    raise LookupError(word)


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


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n_reader": 0}, ValueError),
        ({"n_reader": -1}, ValueError),
        ({"n_reader": 10**9}, ValueError),
        ({"n_reader": 2.0}, TypeError),
        ({"n_reader": True}, TypeError),
        ({"n_reader": 2, "local_reader_ranks": [1]}, ValueError),
        ({"n_reader": 2, "local_reader_ranks": [1, 1]}, ValueError),
        ({"n_reader": 1, "local_reader_ranks": [-1]}, ValueError),
        ({"max_chunk_bytes": 0}, ValueError),
        ({"max_chunk_bytes": -5}, ValueError),
        ({"max_chunk_bytes": 1 << 60}, ValueError),
        ({"max_chunk_bytes": 1.5}, TypeError),
        ({"max_chunks": 1}, ValueError),
        ({"max_chunks": 1 << 60}, ValueError),
        ({"on_reader_death": "ignore"}, ValueError),
        ({"warn_after": 0}, ValueError),
        ({"name": "../escape"}, ValueError),
        ({"name": ""}, ValueError),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected|mapped"):
        MessageQueue.create(**options)


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


async def test_a_cancelled_wait_until_ready_can_be_called_again() -> None:
    async with MessageQueue.create() as writer:
        task = asyncio.create_task(writer.wait_until_ready())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))


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


async def test_what_the_codec_cannot_encode_writes_nothing() -> None:
    writer, reader = await pair()
    async with writer, reader:
        with pytest.raises(EncodeError, match=r"cannot encode this function") as caught:
            await writer.enqueue(lambda: None)
        assert isinstance(caught.value.__cause__, AttributeError | pickle.PicklingError)
        with pytest.raises(EncodeError):
            writer.enqueue_nowait(threading.Lock())
        await writer.enqueue("good")
        assert await reader.dequeue(HANG) == "good"


async def test_a_message_that_cannot_be_decoded_consumes_just_itself() -> None:
    writer, reader = await pair()
    async with writer, reader:
        for obj in ("before", Explosive(), "between", Explosive(), "after"):
            await writer.enqueue(obj)
        assert await reader.dequeue(HANG) == "before"
        with pytest.raises(DecodeError, match="boom") as caught:
            await reader.dequeue(HANG)
        assert isinstance(caught.value.__cause__, LookupError)
        assert reader.dequeue_nowait() == "between"
        with pytest.raises(DecodeError):
            reader.dequeue_nowait()
        assert await reader.dequeue(HANG) == "after"


async def test_a_message_above_the_limit_is_refused_with_its_size() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        with pytest.raises(MessageTooLarge, match="max_chunk_bytes is 1000") as caught:
            await writer.enqueue(bytes(1000))
        assert caught.value.limit == 1000
        assert caught.value.size > 1000
        await writer.enqueue(bytes(900))
        assert await reader.dequeue(HANG) == bytes(900)


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


async def test_an_end_that_is_dropped_without_aclose_is_a_death_and_warns() -> None:
    ends: list[Any] = list(await pair())
    with pytest.warns(ResourceWarning, match="reader rank 0 .* was not closed"):
        ends.pop()
        gc.collect()
    with pytest.raises(ReaderDied):
        await until(lambda: ends[0].enqueue_nowait("x"))
    async with MessageQueue.create_from_handle(ends[0].handle, 0) as reader:
        await reader.wait_until_ready(HANG)
        with pytest.warns(ResourceWarning, match="writer of queue .* was not closed"):
            ends.pop()
            gc.collect()
        with pytest.raises(WriterDied):
            await reader.dequeue(HANG)


async def test_a_call_from_another_loop_or_thread_is_refused() -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("there")
        caught: list[str] = []

        async def use() -> None:
            for call in (lambda: writer.enqueue(1), lambda: reader.dequeue()):
                with pytest.raises(RuntimeError, match="bound to another event loop") as error:
                    await call()
                caught.append(str(error.value))

        def nowait() -> None:
            for call in (lambda: writer.enqueue_nowait(1), lambda: reader.dequeue_nowait()):
                with pytest.raises(RuntimeError) as error:
                    call()
                caught.append(str(error.value))

        await asyncio.to_thread(asyncio.run, use())
        await asyncio.to_thread(nowait)
        assert len(caught) == 4
        assert await reader.dequeue(HANG) == "there"


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
