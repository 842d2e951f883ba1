"""A storm of cancels: each call is struck at random, in the ways a program cancels."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable


class Storm:
    """Strikes calls and counts the hits.

    Args:
        seed: of where the cancels land.
        goal: cancels wanted; 0 strikes nothing.

    Attributes:
        cancels: calls that ended in CancelledError or TimeoutError.
        longest: seconds of the longest struck call.
    """

    def __init__(self, seed: str, goal: int) -> None:
        self._random = random.Random(seed)
        self.goal = goal
        self.cancels = 0
        self.longest = 0.0

    @property
    def over(self) -> bool:
        """Tell whether there were enough."""
        return self.cancels >= self.goal

    async def strike(self, call: Callable[[], Awaitable[None]]) -> None:
        """Run one call, and cancel it at a random moment or not at all.

        What the call did it must note itself, without an await behind it: after a cancel
        nobody else can tell. A storm that is over strikes no more.
        """
        ways = (self._at_once, self._after_turns, self._later, self._timeout, self._wait_for)
        draw = int(self._random.random() * (len(ways) + 1))
        if self.over or draw == len(ways):
            await call()
            return
        began = time.monotonic()
        try:
            await ways[draw](call)
        except (asyncio.CancelledError, TimeoutError):
            self.cancels += 1
        self.longest = max(self.longest, time.monotonic() - began)

    async def _at_once(self, call: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(call())
        task.cancel()
        await task

    async def _after_turns(self, call: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(call())
        for _ in range(self._random.randrange(1, 6)):
            await asyncio.sleep(0)
        task.cancel()
        await task

    async def _later(self, call: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(call())
        timer = asyncio.get_running_loop().call_later(self._random.random() * 2e-3, task.cancel)
        try:
            await task
        finally:
            timer.cancel()

    async def _timeout(self, call: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(self._random.random() * 2e-3):
            await call()

    async def _wait_for(self, call: Callable[[], Awaitable[None]]) -> None:
        await asyncio.wait_for(call(), self._random.random() * 2e-3)
