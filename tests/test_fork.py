"""A forked child cannot use its parent's queue, and does the parent no harm."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from aioshm import ForkedQueue, MessageQueue, ReaderDied, WriterDied
from aioshm.links.folder import folder, sweep
from tests.helpers import HANG, Child, Pipe, pair, until


async def in_forked_child(look: Callable[[], object]) -> str:
    """Fork, run `look` there, and give what it raised or returned, as text."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = repr(look())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(theirs, said.encode())
        os._exit(0)
    os.close(theirs)
    said = (await asyncio.to_thread(os.read, ours, 10_000)).decode()
    os.close(ours)
    os.waitpid(pid, 0)
    return said


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_every_call_in_a_forked_child_raises_and_the_parent_is_unharmed() -> None:
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("before")
        for call in (
            lambda: writer.enqueue_nowait("from the child"),
            reader.dequeue_nowait,
            lambda: writer.evict(0),
            lambda: asyncio.run(_await(writer.enqueue("from the child"))),
            lambda: asyncio.run(_await(reader.dequeue())),
            lambda: asyncio.run(_await(writer.aclose())),
        ):
            said = await in_forked_child(call)
            assert said.startswith("ForkedQueue"), said
            assert "make or join a queue in the child itself" in said
        assert await reader.dequeue(HANG) == "before"
        waiting = asyncio.create_task(reader.dequeue())
        await until(lambda: reader.stats().waits.parks)
        await in_forked_child(lambda: None)
        await writer.enqueue("after")
        assert await waiting == "after"
        assert reader.stats().waits.rescues == 0


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def fork_and_stay(pipe: Pipe, end: str, handle: Any) -> None:
    """Open an end, fork a child that lives on, and wait to be killed."""
    if end == "writer":
        queue: Any = MessageQueue.create()
        pipe.send(queue.handle)
    else:
        queue = MessageQueue.create_from_handle(handle, 0)
    async with queue:
        await queue.wait_until_ready(HANG)
        if not os.fork():
            pipe.send(os.getpid())  # its fork hooks have run
            signal.pause()
        await asyncio.sleep(HANG)


async def test_a_writer_is_dead_although_its_forked_child_lives() -> None:
    with Child(fork_and_stay, "writer", None) as child:
        handle = await child.receive()
        async with MessageQueue.create_from_handle(handle, 0) as reader:
            await reader.wait_until_ready(HANG)
            grandchild = await child.receive()
            await child.kill()
            with pytest.raises(WriterDied):
                await reader.dequeue(HANG)
            async with MessageQueue.create_from_handle(handle, 0) as late:
                with pytest.raises(WriterDied):
                    await late.dequeue(HANG)
        os.kill(grandchild, signal.SIGKILL)
    sweep(folder())


async def test_a_reader_is_dead_although_its_forked_child_lives() -> None:
    async with MessageQueue.create() as writer:
        with Child(fork_and_stay, "reader", writer.handle) as child:
            await writer.wait_until_ready(HANG)
            grandchild = await child.receive()
            await child.kill()
            with pytest.raises(ReaderDied):
                await until(lambda: writer.enqueue_nowait("x"))
            os.kill(grandchild, signal.SIGKILL)


def test_the_error_is_of_its_own_kind() -> None:
    assert issubclass(ForkedQueue, Exception)
