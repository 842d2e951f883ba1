"""The promises users rely on, each shown with real processes."""

from __future__ import annotations

from typing import Any

from aioshm import Handle, MessageQueue
from tests.helpers import Child, Pipe


async def read_all(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read until the writer closes, and report what was read."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        got: list[Any] = [obj async for obj in queue]
        pipe.send(got)


async def test_every_reader_gets_every_message_in_order() -> None:
    sent = [{"step": step, "text": "x" * step} for step in range(500)]
    async with MessageQueue.create(n_reader=3) as queue:
        with (
            Child(read_all, queue.handle, 0) as a,
            Child(read_all, queue.handle, 1) as b,
            Child(read_all, queue.handle, 2) as c,
        ):
            await queue.wait_until_ready(30)
            for obj in sent:
                await queue.enqueue(obj, timeout=30)
            await queue.aclose()
            for child in (a, b, c):
                assert await child.receive() == sent
                await child.join()
