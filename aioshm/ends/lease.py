"""Leases: a message written or read where it lies, without a copy.

A lease keeps the head of the line from entering to leaving, so nothing else moves the
ring meanwhile. Leaving has no await, so no cancel lands between the look at the views
and the commit.

A view that outlives its lease would read, or worse write, whatever message comes to
lie there. Releasing the views handed out finds the arrays made over them (BufferError);
slices and casts of a view are objects of their own that share only its managed buffer.
That buffer holds one reference to the mapping while any of them is unreleased, so the
mapping's reference count tells.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any

from aioshm.codec import Buffer
from aioshm.shm.layout import OBJECT
from aioshm.shm.segment import Segment

_CURE = (
    "views of the lease's memory are still alive: drop every slice, cast and array made from "
    "it before the block ends, or copy with bytes(view) what has to live on"
)


class Window:
    """The views of one lease over a mapping, and the look at what is left of them."""

    def __init__(self, segment: Segment, where: Sequence[slice]) -> None:
        self._segment = segment
        self._holders = self._count()
        whole = memoryview(segment.raw)
        self.views = tuple(whole[part] for part in where)
        whole.release()

    def close(self) -> bool:
        """Release the views; False if others made from them are alive."""
        alone = True
        for view in self.views:
            try:
                view.release()
            except BufferError:
                alone = False
        return alone and self._count() <= self._holders

    def _count(self) -> int:
        return self._segment.holders()


class BodyWindow(Window):
    """The same over a message that came another way, in memory of its own.

    Its views could outlive the lease and do no harm; they are treated alike, so that a
    program does not depend on which messages fit the ring.
    """

    def __init__(self, frames: Sequence[Buffer]) -> None:
        self._frames = frames
        self._holders = self._count()
        self.views = tuple(memoryview(frame).toreadonly() for frame in frames)

    def _count(self) -> int:
        return sum(sys.getrefcount(frame) for frame in self._frames)


class WriteLease:
    """Room in the ring to be filled in place; `acquire_write` makes it.

    Attributes:
        buffer: the memory, writable, valid inside the block.
        nbytes: how much of it is published when the block is left; may be lowered.
    """

    def __init__(
        self,
        nbytes: int,
        claim: Callable[[], Awaitable[tuple[Segment, slice]]],
        commit: Callable[[int], None],
        leave: Callable[[], None],
    ) -> None:
        self._most = self._nbytes = nbytes
        self._claim, self._commit, self._leave = claim, commit, leave
        self._window: Window | None = None

    @property
    def buffer(self) -> memoryview:
        """The memory to fill."""
        if self._window is None:
            raise RuntimeError("the lease's buffer is valid inside its async with block only")
        return self._window.views[0]

    @property
    def nbytes(self) -> int:
        """Bytes that will be published."""
        return self._nbytes

    @nbytes.setter
    def nbytes(self, nbytes: int) -> None:
        if not 0 <= nbytes <= self._most:
            raise ValueError(f"lease.nbytes = {nbytes} where 0 to {self._most} were acquired")
        self._nbytes = nbytes

    async def __aenter__(self) -> WriteLease:
        if self._window is not None:
            raise RuntimeError("this lease is in use; call acquire_write for another")
        segment, where = await self._claim()
        self._window = Window(segment, [where])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        window, self._window = self._window, None
        try:
            if window is not None and not window.close() and error is None:
                raise BufferError(f"nothing was written: {_CURE}")
            if error is None:
                self._commit(self._nbytes)
        finally:
            self._leave()


class ReadLease:
    """A message to be read where it lies; `acquire_read` makes it.

    Attributes:
        buffers: the message's frames, read-only, valid inside the block.
    """

    def __init__(
        self,
        borrow: Callable[[], Awaitable[tuple[int, Window]]],
        decode: Callable[[Sequence[memoryview]], Any],
        consume: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        self._borrow, self._decode = borrow, decode
        self._consume, self._leave = consume, leave
        self._window: Window | None = None
        self._kind = OBJECT

    @property
    def buffers(self) -> tuple[memoryview, ...]:
        """The message's frames."""
        if self._window is None:
            raise RuntimeError("the lease's buffers are valid inside its async with block only")
        return self._window.views

    def load(self) -> Any:
        """Decode the message over the shared memory itself: large arrays are views of it.

        What was written by `acquire_write` comes as ``bytes``, a copy.

        Raises:
            DecodeError: the codec could not take it; leaving normally still consumes it.
            Evicted: it could not because the writer went on without this reader meanwhile.
        """
        if self._kind != OBJECT:
            return bytes(self.buffers[0])
        return self._decode(self.buffers)

    async def __aenter__(self) -> ReadLease:
        if self._window is not None:
            raise RuntimeError("this lease is in use; call acquire_read for another")
        self._kind, self._window = await self._borrow()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        window, self._window = self._window, None
        try:
            if window is not None and not window.close() and error is None:
                raise BufferError(f"the message is still the next: {_CURE}")
            if error is None:
                self._consume()
        finally:
            self._leave()
