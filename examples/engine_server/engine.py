"""The engine process: reads requests from one queue, writes its steps to another.

The server starts it with the handle of the requests in the environment and reads the
handle of the steps from its output. It ends by itself when the server does, however that
happens: then the requests end, or nobody is left to read the steps.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import uvloop

from aioshm import (
    Handle,
    MessageQueue,
    QueueEmpty,
    QueueShutDown,
    Reader,
    ReaderDied,
    Writer,
    WriterDied,
)
from examples.engine_server.messages import Cancel, Counts, Generate, Step
from examples.engine_server.model import Model, docstrings

HANDLE = "ENGINE_REQUESTS"  # the environment variable with the handle of the requests
STEP = 0.002  # seconds; a large model would be on its GPU for about that long


class Batch:
    """The requests that run, and what one step does for all of them; no queue, no clock."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._running: dict[int, tuple[Iterator[str], int]] = {}  # the stream, tokens to go
        self._counts = Counts()

    def __bool__(self) -> bool:
        return bool(self._running)

    def take(self, message: Generate | Cancel) -> None:
        """Let a request join, or leave; it may be done already."""
        if isinstance(message, Generate):
            stream = self._model.stream(message.prompt, message.seed)
            self._running[message.number] = stream, message.max_tokens
            self._counts.joined += 1
        elif self._running.pop(message.number, None):
            self._counts.cancelled += 1

    def step(self) -> Step:
        """Give every running request its next token."""
        batch, tokens, done = self._running, {}, []
        for number, (stream, left) in batch.items():
            tokens[number] = next(stream)
            batch[number] = stream, left - 1
            if left == 1:
                done.append(number)
        for number in done:
            del batch[number]
        counts = self._counts
        counts.steps += bool(tokens)
        counts.tokens += len(tokens)
        counts.finished += len(done)
        counts.largest = max(counts.largest, len(tokens))
        return Step(tokens, done, replace(counts))


async def serve(batch: Batch, requests: Reader, steps: Writer) -> None:
    """Step as long as anything runs, and sleep until a request comes when nothing does."""
    async for message in requests:
        batch.take(message)
        while True:
            with suppress(QueueEmpty):  # all that came during the last step
                while True:
                    batch.take(requests.dequeue_nowait())
            await steps.enqueue(batch.step())
            if not batch:
                break
            await asyncio.sleep(STEP)


async def main() -> None:
    """Train, join, serve; end when the server is gone."""
    handle = Handle.from_string(os.environ[HANDLE])
    batch = Batch(Model(docstrings()))
    with suppress(QueueShutDown, WriterDied, ReaderDied, BrokenPipeError):
        async with MessageQueue.create_from_handle(handle, rank=0) as requests:
            await requests.wait_until_ready(timeout=30)
            async with MessageQueue.create(name="steps") as steps:  # whoever writes creates it
                print(steps.export_handle().to_string(), flush=True)
                await serve(batch, requests, steps)


if __name__ == "__main__":
    uvloop.run(main())
