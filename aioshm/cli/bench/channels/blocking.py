"""The peers that block: multiprocessing's Queue and Pipe, and faster-fifo.

Each message goes to exactly one reader there, so a writer to several readers has one
queue for each and puts every message into all of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aioshm.cli.bench.channels.channel import Channel, In, Out, Setting

_FOR_EVER = 3600.0  # faster-fifo waits 10 s unless told otherwise
_fork = multiprocessing.get_context("fork")


class MpQueue(Channel):
    """multiprocessing.Queue: pickled by a thread of the writer."""

    blocks = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._queues = [_fork.Queue(setting.depth) for _ in range(setting.readers)]

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Out]:
        """Put into the queues."""

        async def send(message: Any) -> None:
            for queue in self._queues:
                queue.put(message)

        yield Out(send)
        for queue in self._queues:
            queue.close()
            queue.join_thread()

    @asynccontextmanager
    async def reader(self, rank: int) -> AsyncIterator[In]:
        """Get from a queue."""
        get = self._queues[rank].get

        async def receive() -> Any:
            return get()

        yield In(receive)


class MpPipe(Channel):
    """multiprocessing.Pipe: pickled once, written to every pipe."""

    blocks = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._connections = [_fork.Pipe(duplex=False) for _ in range(setting.readers)]

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Out]:
        """Write to the pipes."""

        async def send(message: Any) -> None:
            data = pickle.dumps(message, 5)
            for _, writing in self._connections:
                writing.send_bytes(data)

        yield Out(send)

    @asynccontextmanager
    async def reader(self, rank: int) -> AsyncIterator[In]:
        """Read from a pipe."""
        recv = self._connections[rank][0].recv

        async def receive() -> Any:
            return recv()

        yield In(receive)


class FasterFifo(Channel):
    """faster-fifo, with as many bytes as the others may be ahead."""

    blocks = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        queue = importlib.import_module("faster_fifo").Queue
        self._queues = [queue(setting.ahead) for _ in range(setting.readers)]

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Out]:
        """Put into the queues."""

        async def send(message: Any) -> None:
            for queue in self._queues:
                queue.put(message, timeout=_FOR_EVER)

        yield Out(send)

    @asynccontextmanager
    async def reader(self, rank: int) -> AsyncIterator[In]:
        """Get from a queue."""
        get = self._queues[rank].get

        async def receive() -> Any:
            return get(timeout=_FOR_EVER)

        yield In(receive)
