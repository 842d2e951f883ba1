"""What both ends share: loop, thread and fork guards, readiness, closing.

An end belongs to one loop, the one that runs its first awaiting call, and to one
process. `_short` sums up all that a call which need not wait has to know: bound, ready,
not closed, nothing to raise, nobody in line before it. It is how many such calls may
still go the short way before one lets the loop run (`_kept` while that way is closed);
every event that may close it makes it 0. Every other call goes the long way, which looks
at each condition by name, and opens the short one again.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from abc import abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TypeVar

from aioshm.codec import Codec
from aioshm.ends.stats import WaitStats
from aioshm.errors import ForkedQueue
from aioshm.handle import Handle
from aioshm.links.forks import guard
from aioshm.shm.doorbell import Doorbell
from aioshm.shm.segment import Segment
from aioshm.waiting import Backoff, Waiter, turn

T = TypeVar("T")

_TURN_EVERY = 64
"""Awaiting calls of which one yields to the loop first."""


class Link(Protocol):
    """What an end asks of its half of the link, and of its socket for large messages."""

    def close(self) -> None:
        """Hang up without a goodbye."""


class End:
    """One end of a queue; `WriterEnd` and `ReaderEnd` are the two."""

    _link: Link
    _overflow: Link | None = None

    def __init__(self, handle: Handle, codec: Codec, backoff: Backoff) -> None:
        self._handle = handle
        self._codec = codec
        self._encode, self._decode_frames = codec.encode, codec.decode
        self._waiter = Waiter(backoff)
        self._gathering = Waiter(Backoff(yield_for=0.0, doorbell=False))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._runs = _never
        self._open = False
        self._short = self._kept = 0
        self._ready = False
        self._closed = False
        self._forked = False
        self._rung = 0
        self._bells: list[Doorbell] = []
        self._segments: list[Segment] = []
        guard(self)

    # -- what the other side of this class must say -----------------------------------

    @property
    @abstractmethod
    def _who(self) -> str:
        """Role, rank, pid and position, for errors."""

    @abstractmethod
    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to meet the other end."""

    @abstractmethod
    def _check_ready(self) -> bool | None:
        """True once all have joined, None before; raise what makes it impossible."""

    @abstractmethod
    def _missing(self) -> str:
        """Say for whom `wait_until_ready` waits."""

    @abstractmethod
    def _late(self, waited: float, over: bool) -> None:
        """What a wait for a message, or for room, has to say or raise; see `Waiter.wait`."""

    @abstractmethod
    def _leave(self) -> None:
        """Tell the other end and let go of the link."""

    # -- guards --------------------------------------------------------------------------

    def _bind(self) -> None:
        """Make sure that this is our process, loop and thread; adopt the first loop."""
        if self._forked:
            raise ForkedQueue(
                f"{self._who} was made before this process forked and belongs to its parent; "
                "make or join a queue in the child itself"
            )
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None:
            raise RuntimeError(
                f"{self._who} is bound to another event loop or thread; from a thread use "
                "asyncio.run_coroutine_threadsafe(coroutine, loop)"
            )
        if not self._closed:
            self._loop, self._runs = loop, loop.is_running
            self._thread = threading.get_ident()
            self._start(loop)

    def _bind_nowait(self) -> None:
        """The same for a call that does not need a loop to say "not now"."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is None and not self._forked:
                return
        self._bind()

    def _set_open(self, is_open: bool) -> None:
        """Say whether a call could go the short way, as far as that is known beforehand."""
        self._open = is_open
        if not is_open:
            self._short = 0

    def abandon(self) -> None:
        """In a forked child: keep no descriptor of the parent's, and refuse every call."""
        self._set_open(False)
        self._forked = True
        for bell in self._bells:
            bell.close()
        for segment in self._segments:
            segment.close_fd()

    # -- both ends ------------------------------------------------------------------------

    async def _wait(
        self,
        attempt: Callable[[], T | None],
        timeout: float | None,
        *,
        hold: bool = False,
    ) -> T:
        """Go the long way: as `Waiter.wait`, after all guards and a turn of the loop if due."""
        self._bind()
        waiter = self._waiter
        calls = self._short + self._kept
        if not calls:
            # Whatever the state: neither a call that fails at once lets the loop run, nor one
            # that finds nobody before it but tasks which were cancelled and did not run since.
            await turn()
            calls = _TURN_EVERY
        # Nobody may go past those in line, nor past the holder of a lease.
        self._short, self._kept = 0, calls - 1
        try:
            return await waiter.wait(attempt, timeout, self._late, hold=hold)
        finally:
            if self._open and not waiter.length:
                self._short, self._kept = self._kept, 0

    @property
    def handle(self) -> Handle:
        """The address of the queue: what a reader must hold to get in. It is a secret."""
        return self._handle

    @property
    def closed(self) -> bool:
        """Tell whether this end was closed by `aclose`."""
        return self._closed

    async def wait_until_ready(self, timeout: float | None = None) -> None:
        """Wait until every reader has joined; at both ends, and in any order.

        Args:
            timeout: seconds, None for ever, 0 tries once.

        Raises:
            TimeoutError: it took longer; the message names the ranks that are missing.
            AdmissionRefused: this reader was not let in.
            ReaderDied: a reader died, and ``on_reader_death`` is ``"raise"``.
            WriterDied: the writer is gone.
            QueueShutDown: the queue was closed.

        Cancelling it undoes nothing: who has joined has joined.
        """
        self._bind()
        if not self._check_ready():
            await self._gathering.wait(self._check_ready, timeout, self._late_for_ready)

    def _late_for_ready(self, waited: float, over: bool) -> None:
        if over:
            raise TimeoutError(f"{self._who} waited {waited:.3g} s for {self._missing()}")

    def _changed(self) -> None:
        """Something happened that a waiting task should look at."""
        self._waiter.notify()
        self._gathering.notify()

    def _wait_stats(self) -> WaitStats:
        waiter = self._waiter
        return WaitStats(waiter.parks, waiter.wakeups, waiter.bells, waiter.rescues)

    async def aclose(self, timeout: float = 5.0) -> None:
        """Leave the queue, and give back all memory and descriptors; safe to call twice.

        A writer's messages stay for the readers to read; then they get QueueShutDown. A
        reader says goodbye: its rank is free and nobody waits for it. Tasks that wait at
        this end get QueueShutDown.

        Args:
            timeout: seconds to wait until large messages, which do not lie in the ring, were
                read; a reader that gets one no more raises `Gap`. Messages in the ring need
                no waiting.

        Cancelling it closes at once: to a remote reader that was not told in time the writer
        has died.
        """
        if self._loop is not None or self._forked:
            self._bind()
        if self._closed:
            return
        self._closed = True
        self._set_open(False)
        try:
            self._changed()
            await self._drain(timeout)
        finally:
            self._close()

    async def _drain(self, timeout: float) -> None:
        """Wait for what would be lost if this end let go now."""

    def _close(self) -> None:
        self._waiter.stop()
        self._leave()
        self._changed()
        for bell in self._bells:
            bell.close()
        for segment in self._segments:
            segment.close()

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._forked:
            warnings.warn(f"{self._who} was not closed", ResourceWarning, source=self, stacklevel=1)
            self._drop()

    def _drop(self) -> None:
        """Let go without a goodbye: to the peers this is a death."""
        link, waiter, loop = self._link, self._waiter, self._loop
        items: list[Link] = [*self._bells, *self._segments]
        if self._overflow is not None:
            items.append(self._overflow)

        def let_go() -> None:
            waiter.stop()
            link.close()
            for item in items:
                item.close()

        if loop is None or loop.is_closed() or threading.get_ident() == self._thread:
            let_go()
        else:
            # The collector ran in some other thread, where the loop must not be touched.
            loop.call_soon_threadsafe(let_go)


def _never() -> bool:
    return False
