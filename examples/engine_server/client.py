"""The server's side of one engine: hands it requests and deals out its steps."""

import asyncio
import itertools
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from aioshm import AioshmError, Reader, Writer
from examples.engine_server.messages import Cancel, Counts, Generate, Step

ROOM = 5.0  # seconds that a request may wait for room in the queue

Event = tuple[str, dict[str, Any]]  # token, done or error, and what there is to say


class EngineDown(Exception):
    """There is no engine now, or it takes no requests."""


class Engine:
    """One life of the engine process, and of the two queues to it.

    Args:
        pid: its process.
        requests, steps: the queues to it and from it, ready.
    """

    def __init__(self, pid: int, requests: Writer, steps: Reader) -> None:
        self._pid, self._requests, self._steps = pid, requests, steps
        self._numbers = itertools.count()
        self._streams: dict[int, Stream] = {}
        self._cancels: set[asyncio.Task[None]] = set()
        self._counts = Counts()

    async def generate(self, prompt: str, max_tokens: int, seed: int) -> "Stream":
        """Hand a request to the engine.

        Raises:
            EngineDown: it died, or had no room for long; the engine has not got the request.
        """
        number = next(self._numbers)
        # Before the request is written, for the first token may come at once.
        self._streams[number] = stream = Stream(self, number)
        try:
            await self._requests.enqueue(Generate(number, prompt, max_tokens, seed), timeout=ROOM)
        except BaseException as error:
            self._streams.pop(number, None)  # not written, so there is nothing to cancel
            if isinstance(error, AioshmError | TimeoutError):
                raise EngineDown(f"the engine takes no requests: {error}") from error
            raise
        return stream

    def leave(self, number: int) -> None:
        """Cancel a request, unless it is done."""
        if self._streams.pop(number, None):
            # In a task of its own: the one that leaves may be in the middle of a cancel.
            task = asyncio.create_task(self._cancel(number))
            self._cancels.add(task)  # the loop itself holds tasks only weakly
            task.add_done_callback(self._cancels.discard)

    async def _cancel(self, number: int) -> None:
        with suppress(AioshmError):  # a dead engine does no work either
            await self._requests.enqueue(Cancel(number))

    async def collect(self) -> None:
        """Deal out the engine's steps until it closes its queue.

        Raises:
            WriterDied: the engine died; everything it had sent was dealt out.
        """
        step: Step
        async for step in self._steps:
            self._counts = step.counts
            for number, token in step.tokens.items():
                if stream := self._streams.get(number):  # who has left has none
                    stream.put("token", token=token)
            for number in step.done:
                if stream := self._streams.pop(number, None):
                    stream.put("done")

    def fail(self, reason: str) -> None:
        """Tell everybody who still waits that no more will come."""
        while self._streams:
            self._streams.popitem()[1].put("error", error=reason)

    def stats(self) -> dict[str, Any]:
        """Tell who waits for the engine, what it has done, and how the queues do."""
        return {
            "pid": self._pid,
            "streams": len(self._streams),
            "counts": asdict(self._counts),
            "queues": {
                "requests": asdict(self._requests.stats()),
                "steps": asdict(self._steps.stats()),
            },
        }


class Stream:
    """One request while it runs."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine, self._number = engine, number
        # It needs no bound: no request gets more than its max_tokens. So a client that does
        # not read holds up nobody else.
        self._events = asyncio.Queue[Event]()

    def put(self, name: str, **data: Any) -> None:
        """Deal out an event."""
        self._events.put_nowait((name, data))

    async def get(self) -> Event:
        """Wait for the next event: a ``token``, or the last one, ``done`` or ``error``."""
        return await self._events.get()

    def leave(self) -> None:
        """Listen no more; the engine stops working for it, unless it is done."""
        self._engine.leave(self._number)
