"""Writers that are killed: readers get whole messages up to some point, then the error."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from typing import Any

import numpy as np
import pytest

from aioshm import Handle, MessageQueue, QueueShutDown, Reader, WriterDied, fence
from aioshm.links.folder import folder, sweep
from tests.helpers import HANG, Child, Pipe, until
from tests.trouble.cases import case
from tests.trouble.forked import Forked
from tests.trouble.hooks import Hook, die

ROUNDS = 7
"""Messages before the one in question: the last of them reaches to the end of the ring."""


def message(number: int) -> Any:
    """Give a message; the one after the rounds has several frames, and wraps."""
    return [np.full(9000, number), b"x" * number] if number == ROUNDS else (number, bytes(9000))


async def write_and_die(pipe: Pipe, deed: str, moment: int) -> None:
    """Write the rounds, then die at a moment of the deed, or report how many there are."""
    queue = MessageQueue.create(max_chunk_bytes=100_000, max_chunks=2, name="steps")
    pipe.send(queue.handle)
    await queue.wait_until_ready(HANG)
    for number in range(ROUNDS):
        await queue.enqueue(message(number), timeout=HANG)
    pipe.receive_blocking()  # all that was read, and the reader waits
    hook = Hook(moment, die)
    if deed == "a lease":
        async with queue.acquire_write(5000) as lease:
            lease.buffer[:] = b"x" * 5000
    elif deed == "closing":
        await queue.aclose()
    else:
        queue.enqueue_nowait(message(ROUNDS if deed == "many frames" else ROUNDS + 1))
    hook.take_off()
    pipe.send(hook.count)
    pipe.receive_blocking()
    await queue.aclose()


async def end_of(reader: Reader) -> tuple[list[Any], type[Exception]]:
    """Read to the end, whatever it is."""
    got = []
    with pytest.raises((WriterDied, QueueShutDown)) as caught:
        while True:
            got.append(await reader.dequeue(HANG))
    return got, caught.type


async def _die_at(deed: str, moment: int) -> tuple[int | None, list[Any], type[Exception]]:
    """Have a writer die; gives the count if it lived, what came, and how it ended."""
    with Forked(write_and_die, deed, moment) as writer:
        async with MessageQueue.create_from_handle(await writer.receive(), 0) as reader:
            for number in range(ROUNDS):
                assert await reader.dequeue(HANG) == message(number)
            ending = asyncio.create_task(end_of(reader))
            await until(lambda: reader._waiter._sleeper)
            writer.pipe.send("go on")
            count = None
            with contextlib.suppress(EOFError):
                count = await writer.receive()
                writer.pipe.send("close")
            got, error = await asyncio.wait_for(ending, HANG)
            await writer.join(0 if count is not None else -signal.SIGKILL)
            return count, got, error


async def _die_everywhere(deed: str) -> list[tuple[list[Any], type[Exception]]]:
    """Have writers die at every moment of a deed; gives what each reader got."""
    ends = []
    for moment in itertools.count(1):
        count, got, error = await _die_at(deed, moment)
        ends.append((got, error))
        if count is not None:
            assert count == moment - 1
            sweep(folder())
            return ends
    raise AssertionError


def same(got: Any, expected: Any) -> bool:
    """Compare messages that may hold arrays."""
    if isinstance(got, np.ndarray):
        return np.array_equal(got, expected)
    if isinstance(got, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    return bool(got == expected)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@case(24, "before READY", "while readers park", "publish", "many frames", "a lease", "closing")
@pytest.mark.usefixtures("python_ring")
async def test_writer_killed(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "before READY":
        await _before_ready()
    elif how == "while readers park":
        await _while_parking(monkeypatch)
    elif how == "closing":
        for got, error in await _die_everywhere(how):
            assert got == []
            assert error in (WriterDied, QueueShutDown)
        assert error is QueueShutDown
    else:
        ends = await _die_everywhere(how)
        expected = {"publish": message(ROUNDS + 1), "many frames": message(ROUNDS)}.get(
            how, b"x" * 5000
        )
        counts = [len(got) for got, _ in ends]
        assert counts == sorted(counts), "a message that was there before was not there after"
        assert set(counts) == {0, 1}
        assert all(same(got, [expected][: len(got)]) for got, _ in ends)
        assert [error for _, error in ends] == [WriterDied] * (len(ends) - 1) + [QueueShutDown]


async def serve(pipe: Pipe, readers: int) -> None:
    """A writer that writes one message once all are there, and waits."""
    async with MessageQueue.create(readers, name="steps") as queue:
        pipe.send(queue.handle)
        await queue.enqueue("first", timeout=HANG)
        await pipe.receive()


async def _before_ready() -> None:
    with Child(serve, 2) as writer:
        handle: Handle = await writer.receive()
        async with MessageQueue.create_from_handle(handle, 0) as reader:
            with pytest.raises(TimeoutError, match="reader rank 0 .*for the other readers to join"):
                await reader.wait_until_ready(0.3)
            waiting = [
                asyncio.create_task(reader.wait_until_ready(HANG)),
                asyncio.create_task(reader.dequeue(HANG)),
            ]
            await asyncio.sleep(0)
            await writer.kill()
            for task in waiting:
                with pytest.raises(WriterDied, match=rf"rank 0 .*\(pid {writer.pid}\) died"):
                    await task
    sweep(folder())


async def _while_parking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the writer when the reader has raised its flag and not yet looked again."""
    died: list[int] = []
    with Child(serve, 1) as writer:
        async with MessageQueue.create_from_handle(await writer.receive(), 0) as reader:
            assert await reader.dequeue(HANG) == "first"

            def kill_and_fence() -> None:
                if reader._waiter._sleeper and not died:
                    writer.process.kill()
                    died.append(writer.process.wait(HANG))
                fence()

            monkeypatch.setattr("aioshm.shm.ring_reader.fence", kill_and_fence)
            with pytest.raises(WriterDied, match=rf"\(pid {writer.pid}\) died.*up to message 1"):
                await reader.dequeue(HANG)
            assert died == [-signal.SIGKILL]
    sweep(folder())
