"""aioshm itself, as anybody would use it: all defaults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aioshm import Backoff, Handle, MessageQueue, Writer
from aioshm.cli.bench.channels.channel import Channel, In, Out


class Shm(Channel):
    """A queue; the ring is chosen by the environment of the process."""

    def _backoff(self) -> Backoff:
        yield_for = self.setting.yield_for
        return Backoff() if yield_for is None else Backoff(yield_for=yield_for)

    def _create(self) -> Writer:
        return MessageQueue.create(n_reader=self.setting.readers, backoff=self._backoff())

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Out]:
        """Create the queue."""
        async with self._create() as queue:
            self.tell(queue.export_handle().to_string())
            yield Out(queue.enqueue, queue.wait_until_ready)

    @asynccontextmanager
    async def reader(self, rank: int) -> AsyncIterator[In]:
        """Join the queue."""
        handle = Handle.from_string(self.hear(rank))
        async with MessageQueue.create_from_handle(handle, rank, backoff=self._backoff()) as queue:
            yield In(queue.dequeue, queue.wait_until_ready, lambda: queue.stats().waits.parks)


class Remote(Shm):
    """A queue whose readers are all reached over TCP, on this machine's own address."""

    def _create(self) -> Writer:
        return MessageQueue.create(
            self.setting.readers, 0, connect_ip="127.0.0.1", backoff=self._backoff()
        )
