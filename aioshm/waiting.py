"""Waiting without spinning: try, yield, park.

Theory of operation
-------------------
A wait for a message, or for room, goes through three stages::

    try ──► yield ──► park
     ▲     a turn of    arm the flag, fence, look again, then await a future that
     │     the loop,    ├─ the doorbell resolves: the other side saw the flag
     │     then try     ├─ a timer resolves: a safety look, or a deadline
     │     again        └─ the link resolves: closed, died, evicted, ready
     └────────────────────── disarm, try again

*Yielding* finds a message that is microseconds away without a system call by either
side, and lets every other task of the loop run at each turn. It is worth its CPU while
it pays off: the time allowed doubles, up to ``yield_for``, with each wait it ended, and
halves with each it did not, down to a single turn. So one reader beside an idle core
yields, and eight on two cores park at once and leave the CPU to the writer. Two ends
that answer each other could get stuck down there, each parking because the other does;
so every sixteenth wait is a probe and yields for the whole time, and one that pays off
brings the whole time back.

*Parking* costs the other side a doorbell (an eventfd, a system call) and this side a
wake-up by the kernel, tens of microseconds in all. The timer is no part of that, only a
net below it: it doubles from ``min_sleep`` to ``max_sleep``. A message found by the
timer although its bell was due and stayed silent is a *rescue*, counted, and a bug.
With ``doorbell=False`` there is no flag and no bell, and the timer is all there is.

What the default costs and gains, on two cores with uvloop and the C ring, both ends alike,
messages of 90 bytes, medians of five alternating rounds::

    yield_for, us                  0     25     50    100    200    400   1000
    1 reader, 1000 messages/s    962    963    948    945    966    976    942
    8 readers                    200    199    203    198    193    193    198
    round trip, us              55.5    5.9    6.0    6.0    6.4    7.2    6.8
    one and back, each 2 ms       48     50     46     46     50     48     45
    50 and back, each 2 ms       258    282    296    286    315    342    560
    CPU at 100 messages/s, %     0.5    0.5    0.7    0.8    0.8    1.1    1.8
    CPU at 10,000, %             2.9    3.2    2.9    3.7    5.0    8.1   16.9

Each turn resumes the waiting coroutine, 0.77 us in all. A callback that tries, calls itself
again and resolves a future at the end takes 0.95 us, and then the future one turn more: a
round trip of 8.0 us instead of 6.0 (tried, and thrown away).

Several tasks may wait at one end. They stand in line; only the head yields and parks,
and whoever leaves it, by success, cancel or timeout, hands it to the next.

Nothing is awaited after an attempt that succeeded, so a cancel lands before it or not
at all: a cancelled wait has consumed nothing.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from aioshm.shm.doorbell import Doorbell

T = TypeVar("T")

# Neither loop sleeps finer; uvloop turns a shorter call_later into the next turn, and a
# wait of the last 0.3 ms before a deadline into a spin.
_SHORTEST = 1e-3
_PROBE_EVERY = 16


@dataclass(frozen=True)
class Backoff:
    """How an end waits.

    Args:
        yield_for: seconds that a wait may go on yielding to the loop before it parks.
            0 allows a single turn. Default 100 us, about twice what a wake-up costs.
        min_sleep: seconds of the first timed sleep; None for the default: 1 ms without
            the doorbell, 100 ms with it.
        max_sleep: seconds up to which the sleep doubles. Default 1 s.
        doorbell: let the other side cut a sleep short. Without it latency is up to
            ``max_sleep``, and neither side makes a system call for the other.

    Raises:
        ValueError: a negative time, or min_sleep above max_sleep.
    """

    yield_for: float = 100e-6
    min_sleep: float | None = None
    max_sleep: float = 1.0
    doorbell: bool = True

    def __post_init__(self) -> None:
        if not self.yield_for >= 0 or not self.max_sleep > 0 or not self.first_sleep > 0:
            raise ValueError(f"{self}: yield_for may be 0, the sleeps must be above it")
        if self.min_sleep is not None and self.min_sleep > self.max_sleep:
            raise ValueError(f"{self}: min_sleep is above max_sleep")

    @property
    def first_sleep(self) -> float:
        """Seconds of the first timed sleep."""
        if self.min_sleep is not None:
            return self.min_sleep
        return min(self.max_sleep, 0.1 if self.doorbell else 1e-3)


class Pace:
    """What a `Backoff` comes to as waits succeed and fail: pure state, no clock."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._sleep = backoff.first_sleep
        self._yield_for = backoff.yield_for
        self._waits = 0

    def begin(self) -> float:
        """Seconds that the wait which begins now may go on yielding."""
        self._waits += 1
        if not self._waits % _PROBE_EVERY:
            self._yield_for = self._backoff.yield_for
        return self._yield_for

    def yielding_paid(self) -> None:
        """A yield ended the wait: allow the next one twice as long."""
        # From nothing the allowance could not double; 1 us is below any turn.
        self._yield_for = min(self._backoff.yield_for, max(1e-6, self._yield_for * 2))
        self.succeeded()

    def yielding_failed(self) -> None:
        """All the yields ended no wait: allow half as much."""
        self._yield_for /= 2

    def next_sleep(self) -> float:
        """Seconds to sleep now; the next sleep of this wait is twice as long."""
        now, self._sleep = self._sleep, min(self._backoff.max_sleep, self._sleep * 2)
        return now

    def succeeded(self) -> None:
        """The wait is over: the next one sleeps from the beginning again."""
        self._sleep = self._backoff.first_sleep


class Parking(Protocol):
    """The ring's side of a wait."""

    def arm(self) -> bool:
        """Ask for a bell, fence, look again; True if there is no need to wait."""

    def disarm(self) -> None:
        """Ask for no bell."""

    def overdue(self) -> bool:
        """Tell whether a bell is due although none was heard."""


@types.coroutine
def turn() -> Generator[None, None, None]:
    """Let the loop run whatever else is ready, once."""
    yield


class Waiter:
    """The line of tasks that wait at one end, and how its head waits.

    Args:
        backoff: how to wait.

    Attributes:
        length: tasks in line; while there are any, nobody may go past them.
        holder: the task that keeps the head of the line for a lease.
        parks, wakeups, bells, rescues: counts, for stats.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._pace = Pace(backoff)
        self._doorbell = backoff.doorbell
        self._head = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: Doorbell | None = None
        self._parking: Parking | None = None
        self._sleeper: asyncio.Future[None] | None = None
        self._overslept = False
        self.length = 0
        self.holder: asyncio.Task[object] | None = None
        self.parks = self.wakeups = self.bells = self.rescues = 0

    def start(self, bell: Doorbell, parking: Parking) -> None:
        """From now on park at `parking` and listen for `bell`, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._bell, self._parking = bell, parking
        self._loop.add_reader(bell.fileno(), self._heard)

    def stop(self) -> None:
        """Park and listen no more; the head of the line looks once again."""
        if self._bell is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._bell.fileno())
        if self._sleeper is not None and self._parking is not None:
            self._parking.disarm()
        self._bell = self._parking = None
        self.notify()

    def notify(self) -> None:
        """Have the head of the line look again."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    def _heard(self) -> None:
        self._hear()
        self.notify()

    def _hear(self) -> bool:
        heard = self._bell is not None and self._bell.clear()
        self.bells += heard
        return heard

    async def wait(
        self,
        attempt: Callable[[], T | None],
        timeout: float | None,
        late: Callable[[float, bool], None],
        *,
        hold: bool = False,
    ) -> T:
        """Stand in line, then try until `attempt` gives something.

        Args:
            attempt: gives None for "not yet"; what it raises ends the wait.
            timeout: seconds, None for ever; 0 tries once.
            late: called as ``late(seconds waited, False)`` after each sleep and as
                ``late(seconds waited, True)`` at the end of the time; then it raises.
            hold: keep the head of the line until `leave`.

        Raises:
            TimeoutError: from `late`.

        Cancelling it leaves the line; nothing was consumed.
        """
        start = time.monotonic()
        deadline = None if timeout is None else start + timeout
        if self.holder is not None and self.holder is asyncio.current_task():
            raise RuntimeError(
                "this task holds a lease on the queue and would wait for itself: "
                "leave the lease's block first"
            )
        self.length += 1
        try:
            await self._reach_head(start, deadline, late)
            try:
                result = await self._wait_at_head(attempt, start, deadline, late)
            except BaseException:
                self._head.release()
                raise
        except BaseException:
            self.length -= 1
            raise
        if hold:
            self.holder = asyncio.current_task()
        else:
            self.leave()
        return result

    def leave(self) -> None:
        """Give up the head of the line."""
        self.holder = None
        self.length -= 1
        self._head.release()

    async def _reach_head(
        self, start: float, deadline: float | None, late: Callable[[float, bool], None]
    ) -> None:
        if deadline is None or self.length == 1:
            await self._head.acquire()
            return
        try:
            async with asyncio.timeout(max(0.0, deadline - start)):
                await self._head.acquire()
        except TimeoutError:
            late(time.monotonic() - start, True)

    async def _wait_at_head(
        self,
        attempt: Callable[[], T | None],
        start: float,
        deadline: float | None,
        late: Callable[[float, bool], None],
    ) -> T:
        now = start
        park_at = start + self._pace.begin()
        while (result := attempt()) is None:
            if deadline is not None and now >= deadline:
                late(now - start, True)
            await turn()
            if (result := attempt()) is not None:
                self._pace.yielding_paid()
                return result
            now = time.monotonic()
            if now >= park_at:
                self._pace.yielding_failed()
                break
        while result is None:
            if deadline is not None and now >= deadline:
                late(now - start, True)
            delay = self._pace.next_sleep()
            rest = delay if deadline is None else deadline - now
            await self._park(min(delay, rest), safety=delay <= rest)
            result = attempt()
            now = time.monotonic()
            if result is None:
                late(now - start, False)
        self._pace.succeeded()
        return result

    async def _park(self, delay: float, *, safety: bool = True) -> None:
        loop = self._loop or asyncio.get_running_loop()
        self._sleeper = sleeper = loop.create_future()
        armed = self._doorbell and self._parking is not None
        timer: asyncio.TimerHandle | None = None
        try:
            if armed and self._parking is not None and self._parking.arm():
                # A turn even so: should the attempt that follows not see what arm() saw,
                # this would go round for ever without letting the loop run.
                await turn()
                return
            self._overslept = False
            # A deadline is no safety look. It comes at any moment, so also while the other
            # side, preempted between its store and its bell, is about to ring.
            over = self._oversleep if safety else self.notify
            timer = loop.call_later(max(delay, _SHORTEST), over)
            self.parks += 1
            heard = self.bells
            await sleeper
            self.wakeups += 1
            if armed and self._overslept and self.bells == heard and self._overdue():
                # The other side stores first and rings later; one turn is its chance.
                await turn()
                if self.bells == heard and self._overdue() and not self._hear():
                    self.rescues += 1
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()
            if armed and self._parking is not None:
                self._parking.disarm()

    def _oversleep(self) -> None:
        self._overslept = True
        self.notify()

    def _overdue(self) -> bool:
        return self._parking is not None and self._parking.overdue()
