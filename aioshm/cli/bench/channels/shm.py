"""aioshm itself, as anybody would use it: all defaults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aioshm import Backoff, Handle, MessageQueue
from aioshm.cli.bench.channels.channel import Channel, In, Out


class Shm(Channel):
    """A queue; the ring is chosen by the environment of the process."""

    def _backoff(self) -> Backoff:
        yield_for = self.setting.yield_for
        return Backoff() if yield_for is None else Backoff(yield_for=yield_for)

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Out]:
        """Create the queue."""
        readers = self.setting.readers
        async with MessageQueue.create(n_reader=readers, backoff=self._backoff()) as queue:
            self.tell(queue.export_handle().to_string())
            yield Out(queue.enqueue, queue.wait_until_ready)

    @asynccontextmanager
    async def reader(self, rank: int) -> AsyncIterator[In]:
        """Join the queue."""
        handle = Handle.from_string(self.hear(rank))
        async with MessageQueue.create_from_handle(handle, rank, backoff=self._backoff()) as queue:
            yield In(queue.dequeue, queue.wait_until_ready, lambda: queue.stats().waits.parks)
