"""`evict_after`: who holds the writer back without moving is evicted, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aioshm import Backoff, Evicted, Handle, MessageQueue, QueueFull, QueueShutDown, Writer
from tests.helpers import HANG, Child, Pipe, pair

SMALL: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}
AFTER = 0.4
LATE = 10 * AFTER
"""Ten times its bound is what a test may ask of a time."""
WAITS = pytest.mark.parametrize(
    "backoff",
    [
        Backoff(min_sleep=HANG, max_sleep=HANG),
        Backoff(min_sleep=HANG, max_sleep=HANG, doorbell=False),
        Backoff(yield_for=float("inf")),
    ],
    ids=["doorbell", "timer", "spin"],
)


async def read_all(pipe: Pipe, handle: Handle, rank: int, pause: float = 0.0) -> None:
    """Read to the end, with a pause after each message; report what was read and the end."""
    got: list[Any] = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        try:
            while True:
                got.append((await queue.dequeue())[0])
                if pause:
                    await asyncio.sleep(pause)
        except (Evicted, QueueShutDown) as error:
            pipe.send((got, type(error).__name__, str(error)))


async def hold_a_lease(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Lease a message and keep it until told; report how the lease ends."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        try:
            async with queue.acquire_read(HANG) as lease:
                pipe.send(lease.load()[0])
                await pipe.receive()
            pipe.send("consumed")
        except Evicted as error:
            pipe.send(str(error))


@contextlib.asynccontextmanager
async def slow_and_fast(
    function: Any, **options: Any
) -> AsyncIterator[tuple[Writer, Child, Child]]:
    """Give a writer with two readers: rank 1, which does as told, and rank 0, which reads all."""
    async with MessageQueue.create(2, evict_after=AFTER, **SMALL, **options) as queue:
        with Child(read_all, queue.handle, 0) as fast, Child(function, queue.handle, 1) as slow:
            await queue.wait_until_ready(HANG)
            assert await fast.receive() == "ready"
            yield queue, slow, fast
            await queue.aclose()
            got, ended, _ = await fast.receive()
            assert (got, ended) == (list(range(queue.stats().messages)), "QueueShutDown")
            await fast.join()
            await slow.join()


async def write_until_evicted(queue: Writer) -> float:
    """Write until only one reader is left, and some more; gives how long one call waited."""
    longest = 0.0
    while len(queue.stats().readers) == 2:
        began = time.monotonic()
        await queue.enqueue((queue.stats().messages, bytes(1000)), timeout=HANG)
        longest = max(longest, time.monotonic() - began)
    for _ in range(20):
        await queue.enqueue((queue.stats().messages, bytes(1000)), timeout=HANG)
    return longest


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


@WAITS
async def test_a_stopped_reader_is_evicted_in_time_and_the_other_gets_everything(
    backoff: Backoff, caplog: pytest.LogCaptureFixture
) -> None:
    async with slow_and_fast(read_all, backoff=backoff) as (queue, slow, _):
        assert await slow.receive() == "ready"
        slow.signal(signal.SIGSTOP)
        assert AFTER <= await write_until_evicted(queue) < LATE
        (said,) = warned(caplog)
        assert f"rank 1 (pid {slow.pid}) held it back for {AFTER:.3g} s" in said
        slow.signal(signal.SIGCONT)
        got, ended, text = await slow.receive()
        assert got == list(range(len(got)))
        assert ended == "Evicted"
        assert "join again" in text


async def test_a_reader_is_evicted_in_the_middle_of_a_lease() -> None:
    async with slow_and_fast(hold_a_lease) as (queue, slow, _):
        await queue.enqueue((0, b""))
        assert await slow.receive() == 0
        assert AFTER <= await write_until_evicted(queue) < LATE
        slow.send("leave")
        assert "evicted" in await slow.receive()


async def test_a_slow_reader_that_moves_is_not_evicted(caplog: pytest.LogCaptureFixture) -> None:
    async with MessageQueue.create(1, evict_after=1.5, **SMALL) as queue:
        with Child(read_all, queue.handle, 0, 0.05) as slow:
            await queue.wait_until_ready(HANG)
            began = time.monotonic()
            for number in range(45):
                await queue.enqueue((number, bytes(2000)), timeout=HANG)
            assert time.monotonic() - began > 1.5  # all in all it held us back for longer
            await queue.aclose()
            assert await slow.receive() == "ready"
            assert (await slow.receive())[:2] == (list(range(45)), "QueueShutDown")
            await slow.join()
    assert warned(caplog) == []


async def test_an_idle_writer_evicts_nobody() -> None:
    writer, reader = await pair(evict_after=0.01, **SMALL)
    async with writer, reader:
        written = 0
        with pytest.raises(QueueFull):
            while True:
                writer.enqueue_nowait((written, bytes(1000)))
                written += 1
        await asyncio.sleep(0.1)  # the reader does not move, and nobody waits for it
        with pytest.raises(QueueFull):
            writer.enqueue_nowait(bytes(1000))
        assert [(await reader.dequeue(HANG))[0] for _ in range(written)] == list(range(written))


async def test_tries_without_waiting_evict_too() -> None:
    writer, reader = await pair(evict_after=0.1, **SMALL)
    async with writer, reader:
        began, tries = 0.0, 0
        while writer.stats().readers:
            try:
                writer.enqueue_nowait(bytes(1000))
            except QueueFull:
                began, tries = began or time.monotonic(), tries + 1
                await asyncio.sleep(0.005)
        assert tries > 2
        assert 0.1 <= time.monotonic() - began < 1.0
        with pytest.raises(Evicted):
            await reader.dequeue(HANG)


async def test_tries_that_time_out_add_up() -> None:
    writer, reader = await pair(evict_after=0.1, **SMALL)
    async with writer, reader:
        timeouts = 0
        while writer.stats().readers:
            try:
                await writer.enqueue(bytes(1000), timeout=0.01)
            except TimeoutError:
                timeouts += 1
        assert timeouts >= 4
        assert writer.stats().messages > 0


async def test_a_lease_that_waits_for_room_evicts_too() -> None:
    writer, reader = await pair(evict_after=0.1, **SMALL)
    async with writer, reader:
        for _ in range(20):
            async with writer.acquire_write(1000, timeout=HANG):
                pass
        assert writer.stats().readers == ()


async def test_all_who_hold_the_writer_back_are_evicted_at_once() -> None:
    async with MessageQueue.create(4, evict_after=0.2, **SMALL) as queue:
        readers = [MessageQueue.create_from_handle(queue.handle, rank) for rank in range(4)]
        async with contextlib.AsyncExitStack() as stack:
            for reader in readers:
                await stack.enter_async_context(reader)
            await queue.wait_until_ready(HANG)
            for number in range(16):
                await queue.enqueue((number, bytes(450)))
            for rank, reader in enumerate(readers):
                for _ in range(rank):
                    await reader.dequeue(HANG)
            began = time.monotonic()
            await queue.enqueue(bytes(4000), timeout=HANG)  # each of them is in the way
            assert 0.2 <= time.monotonic() - began < 0.2 * 10
            assert queue.stats().readers == ()


async def test_the_rank_of_an_evicted_reader_can_be_taken_again() -> None:
    writer, reader = await pair(evict_after=0.05, **SMALL)
    async with writer, reader:
        while writer.stats().readers:
            await writer.enqueue(bytes(1000), timeout=HANG)
        async with MessageQueue.create_from_handle(writer.handle, 0) as successor:
            await successor.wait_until_ready(HANG)
            await writer.enqueue("for the successor", timeout=HANG)
            assert await successor.dequeue(HANG) == "for the successor"
            with pytest.raises(Evicted):
                await reader.dequeue(HANG)


async def test_a_writer_that_was_stopped_itself_evicts_nobody() -> None:
    """What a frozen container looks like: all stop and go on together."""
    with Child(fill_and_wait, 1.5) as writer:
        handle = await writer.receive()
        async with MessageQueue.create_from_handle(handle, 0) as reader:
            await reader.wait_until_ready(HANG)
            written = await writer.receive()
            writer.signal(signal.SIGSTOP)
            await asyncio.sleep(1.7)
            writer.signal(signal.SIGCONT)
            await asyncio.sleep(0.2)  # it looks at us, and we have not moved
            assert [(await reader.dequeue(HANG))[0] for _ in range(written + 1)] == [
                *range(written), "once there is room",
            ]  # fmt: skip
            await writer.join()


async def fill_and_wait(pipe: Pipe, after: float) -> None:
    """Fill the ring, report how many messages that took, and wait to write one more."""
    async with MessageQueue.create(evict_after=after, **SMALL) as queue:
        pipe.send(queue.handle)
        await queue.wait_until_ready(HANG)
        written = 0
        with pytest.raises(QueueFull):
            while True:
                queue.enqueue_nowait((written, bytes(1000)))
                written += 1
        pipe.send(written)
        await queue.enqueue(("once there is room", bytes(1000)), timeout=HANG)


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_times_that_cannot_be_meant_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="seconds above 0, or None, were expected"):
        MessageQueue.create(evict_after=value)


async def hold_large(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Join and never read; report what the first call then gives."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        await pipe.receive()
        try:
            await queue.dequeue(HANG)
        except Evicted as error:
            pipe.send(str(error))


@WAITS
async def test_who_holds_back_large_messages_is_evicted_too(backoff: Backoff) -> None:
    async with slow_and_fast(hold_large, backoff=backoff, max_overflow_bytes=100_000) as (
        queue,
        slow,
        _,
    ):
        assert await slow.receive() == "ready"
        began = time.monotonic()
        for number in range(6):
            await queue.enqueue((number, bytes(30_000)), timeout=HANG)
        assert AFTER <= time.monotonic() - began < LATE
        assert [peer.rank for peer in queue.stats().readers] == [0]
        slow.send("go on")
        assert "evicted" in await slow.receive()
        await slow.join()
