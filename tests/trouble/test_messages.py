"""Messages that cannot be sent, cannot be taken, or are held the wrong way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from aioshm import (
    DecodeError,
    EncodeError,
    MessageQueue,
    MessageTooLarge,
    QueueEmpty,
    QueueFull,
    Reader,
    Writer,
)
from tests.helpers import HANG, pair
from tests.trouble.cases import case


async def flows(writer: Writer, *readers: Reader) -> None:
    """Look that nothing lies in the way, and that the next message comes."""
    await writer.enqueue("good", timeout=HANG)
    for reader in readers:
        assert await reader.dequeue(HANG) == "good"
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()


@case(15, "enqueue", "enqueue_nowait", "acquire_write", "many frames", "full ring")
async def test_too_large(how: str) -> None:
    writer, reader = await pair(max_chunk_bytes=20_000, max_chunks=2, max_overflow_bytes=20_000)
    name = "max_chunk_bytes" if how == "acquire_write" else "max_overflow_bytes"
    async with writer, reader:
        written = 0
        if how == "full ring":
            with pytest.raises(QueueFull):
                while True:
                    writer.enqueue_nowait(bytes(9000))
                    written += 1
        before = writer.stats()
        with pytest.raises(MessageTooLarge, match=f"{name} is 20000; give.*larger") as error:
            if how == "acquire_write":
                async with writer.acquire_write(20_001):
                    pass
            elif how == "enqueue_nowait":
                writer.enqueue_nowait(bytes(20_000))
            elif how == "many frames":
                await writer.enqueue([np.full(9000, n, np.uint8) for n in range(3)])
            else:
                await writer.enqueue(bytes(20_000))
        assert error.value.limit == 20_000
        assert error.value.size > 20_000
        assert writer.stats() == before
        for _ in range(written):
            assert await reader.dequeue(HANG) == bytes(9000)
        await flows(writer, reader)


class Unwilling:
    """Raises when it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise LookupError("not today")


def _endless() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


UNPICKLABLE: dict[str, Callable[[], Any]] = {
    "a function": lambda: lambda: None,
    "a lock": threading.Lock,
    "an object that refuses": Unwilling,
    "behind large arrays": lambda: [np.zeros(100_000), threading.Lock()],
    "too deep": _endless,
}


@case(16, *UNPICKLABLE)
async def test_unpicklable(how: str) -> None:
    writer, reader = await pair()
    async with writer, reader:
        thing = UNPICKLABLE[how]()
        before = writer.stats()
        text = rf"writer of queue 'queue' .*cannot encode this {type(thing).__name__}: "
        with pytest.raises(EncodeError, match=text) as caught:
            await writer.enqueue(thing)
        assert caught.value.__cause__ is not None
        with pytest.raises(EncodeError, match=text):
            writer.enqueue_nowait(thing)
        assert writer.stats() == before
        await flows(writer, reader)


class Explosive:
    """Pickles well, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ("boom",)


def _explode(word: str) -> None:
    raise LookupError(word)


async def _take(reader: Reader, how: str) -> Any:
    if how == "dequeue":
        return await reader.dequeue(HANG)
    if how == "dequeue_nowait":
        return reader.dequeue_nowait()
    if how == "async for":
        async for message in reader:
            return message
    async with reader.acquire_read(HANG) as lease:
        try:
            return lease.load()
        except DecodeError as error:
            kept = error
    raise kept


@case(17, "dequeue", "dequeue_nowait", "async for", "a lease")
async def test_unpickling_raises(how: str) -> None:
    async with two_readers() as (writer, readers):
        for number in range(10):
            await writer.enqueue(number)
            await writer.enqueue([np.zeros(9000), Explosive()] if number % 2 else Explosive())
        for reader in readers:
            for number in range(10):
                assert await _take(reader, how) == number
                text = r"reader rank \d of queue .* cannot decode the message before it: boom"
                with pytest.raises(DecodeError, match=text) as caught:
                    await _take(reader, how)
                assert isinstance(caught.value.__cause__, LookupError)
        await flows(writer, *readers)


@contextlib.asynccontextmanager
async def two_readers() -> AsyncIterator[tuple[Writer, list[Reader]]]:
    """Give a writer and its two readers, ready."""
    async with (
        MessageQueue.create(2) as writer,
        MessageQueue.create_from_handle(writer.handle, 0) as a,
        MessageQueue.create_from_handle(writer.handle, 1) as b,
    ):
        await asyncio.gather(*(end.wait_until_ready(HANG) for end in (writer, a, b)))
        yield writer, [a, b]


@case(28, "views kept", "exception", "cancel", "two at once", "enqueue inside own lease")
async def test_lease_misuse(how: str) -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("first")
        before = writer.stats().position
        await _MISUSES[how](writer, reader)
        assert writer.stats().position == before, "something was written"
        assert await reader.dequeue(HANG) == "first"
        await flows(writer, reader)


async def _keep_views(writer: Writer, reader: Reader) -> None:
    with pytest.raises(BufferError, match="nothing was written: .*drop every slice.*bytes"):
        async with writer.acquire_write(10) as writing:
            kept = writing.buffer[1:]
    del kept
    with pytest.raises(BufferError, match="still the next: .*drop every slice.*bytes"):
        async with reader.acquire_read() as reading:
            kept = reading.buffers[0][1:]
    del kept


async def _raise_inside(writer: Writer, reader: Reader) -> None:
    with pytest.raises(LookupError):
        async with writer.acquire_write(10) as writing:
            writing.buffer[:] = b"x" * 10
            raise LookupError
    with pytest.raises(LookupError):
        async with reader.acquire_read() as reading:
            assert reading.load() == "first"
            raise LookupError


async def _cancel_inside(writer: Writer, reader: Reader) -> None:
    for lease in (lambda: writer.acquire_write(10), reader.acquire_read):
        entered = asyncio.Event()

        async def hold() -> None:
            async with lease():  # noqa: B023
                entered.set()  # noqa: B023
                await asyncio.sleep(HANG)

        task = asyncio.create_task(hold())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def _hold_two(writer: Writer, reader: Reader) -> None:
    for lease in (lambda: writer.acquire_write(10), reader.acquire_read):
        with pytest.raises(RuntimeError, match="would wait for itself: leave the lease's block"):
            async with lease(), lease():
                pass
        held = lease()
        with pytest.raises(RuntimeError, match="this lease is in use; call acquire_"):
            async with held, held:
                pass


async def _enqueue_inside(writer: Writer, reader: Reader) -> None:
    with pytest.raises(RuntimeError, match="would wait for itself: leave the lease's block"):
        async with writer.acquire_write(10):
            with pytest.raises(QueueFull, match="hold a lease"):
                writer.enqueue_nowait("inside")
            await writer.enqueue("inside")
    with pytest.raises(RuntimeError, match="would wait for itself"):
        async with reader.acquire_read():
            with pytest.raises(QueueEmpty, match="hold a lease"):
                reader.dequeue_nowait()
            await reader.dequeue()


_MISUSES = {
    "views kept": _keep_views,
    "exception": _raise_inside,
    "cancel": _cancel_inside,
    "two at once": _hold_two,
    "enqueue inside own lease": _enqueue_inside,
}
