"""A forked child keeps nobody alive; trouble/test_use.py shows what it may not do."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from aioshm import ForkedQueue, Handle, MessageQueue, ReaderDied
from tests.helpers import HANG, Child, Pipe, until


async def fork_and_stay(pipe: Pipe, handle: Handle) -> None:
    """Join, fork a child that lives on, and wait to be killed."""
    async with MessageQueue.create_from_handle(handle, 0) as queue:
        await queue.wait_until_ready(HANG)
        if not os.fork():
            pipe.send(os.getpid())  # its fork hooks have run
            signal.pause()
        await asyncio.sleep(HANG)


async def test_a_reader_is_dead_although_its_forked_child_lives() -> None:
    async with MessageQueue.create() as writer:
        with Child(fork_and_stay, writer.handle) as child:
            await writer.wait_until_ready(HANG)
            grandchild = await child.receive()
            await child.kill()
            with pytest.raises(ReaderDied):
                await until(lambda: writer.enqueue_nowait("x"))
            os.kill(grandchild, signal.SIGKILL)


def test_the_error_is_of_its_own_kind() -> None:
    assert issubclass(ForkedQueue, Exception)
