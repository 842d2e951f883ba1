"""A line of waiting tasks for tests, with a parking that the test decides about."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from aioshm import Backoff
from aioshm.shm.doorbell import Doorbell
from aioshm.waiting import Waiter
from tests.helpers import HANG

AT_ONCE = Backoff(yield_for=0.0, min_sleep=HANG, max_sleep=HANG)
"""Parks at the second turn, and has a timer that no test waits for."""


class Late(Exception):
    """The end of the time, as the owner of a waiter tells it."""


class FakeParking:
    """The ring's side: a flag, and what a second look finds."""

    def __init__(self) -> None:
        self.armed = False
        self.arms = 0
        self.due = False
        self.second_look: Callable[[], bool] = lambda: False
        self.overdue_look: Callable[[], None] = lambda: None

    def arm(self) -> bool:
        """Raise the flag and look again."""
        self.armed = True
        self.arms += 1
        return self.second_look()

    def disarm(self) -> None:
        """Lower the flag."""
        self.armed = False

    def overdue(self) -> bool:
        """Tell whether a bell is due."""
        self.overdue_look()
        return self.due


class Line:
    """A waiter with a bell and a parking, and the messages that its tasks wait for."""

    def __init__(self, backoff: Backoff = AT_ONCE) -> None:
        self.waiter = Waiter(backoff)
        self.bell = Doorbell()
        self.parking = FakeParking()
        self.messages: deque[int] = deque()
        self.attempts = 0
        self.looks: list[float] = []
        self.waiter.start(self.bell, self.parking)

    def attempt(self) -> int | None:
        """Take a message."""
        self.attempts += 1
        return self.messages.popleft() if self.messages else None

    def late(self, waited: float, over: bool) -> None:
        """Note the sleeps, and raise at the end."""
        if over:
            raise Late(waited)
        self.looks.append(waited)

    async def get(self, timeout: float | None = None, *, hold: bool = False) -> int:
        """Wait for a message."""
        return await self.waiter.wait(self.attempt, timeout, self.late, hold=hold)

    def task(self, timeout: float | None = None, *, hold: bool = False) -> asyncio.Task[int]:
        """Wait for a message in a task."""
        return asyncio.create_task(self.get(timeout, hold=hold))

    def put(self, message: int) -> None:
        """Send a message as the other side does: ring if the flag is up, once."""
        self.messages.append(message)
        if self.parking.armed:
            self.parking.armed = False
            self.bell.ring()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Turn the loop until something is so."""
        async with asyncio.timeout(HANG):
            while not condition():
                await asyncio.sleep(0)

    async def until_parked(self, parks: int = 1) -> None:
        """Turn the loop until the head sleeps, for the so-manieth time."""
        await self.until(lambda: self.waiter.parks >= parks and self.parking.armed)


def end(line: Line) -> None:
    """Look that a line is empty and at rest, and close it."""
    assert line.waiter.length == 0
    assert line.waiter.holder is None
    assert not line.parking.armed
    line.waiter.stop()
    line.bell.close()
