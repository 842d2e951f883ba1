"""What all channels have in common: one writer, some readers, and how they find each other.

A channel is made before the processes are forked; afterwards one of them opens its
writing end and the others each a reading end::

    channel = make(...)              in the child that the command started
    ── fork ──
    async with channel.writer() as out:       async with channel.reader(rank) as end:
        await out.ready()                         await end.ready()
        await out.send(message)                   message = await end.receive()

A channel that blocks never suspends: its coroutines run without a loop (`drive`), which
costs it the call of a coroutine for each message, some 50 ns.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from aioshm.cli.loops import new_loop

T = TypeVar("T")

_AHEAD = 16 << 20
"""Bytes that a writer may be ahead of a reader, about as many as aioshm's default ring."""

_AT_LEAST = 4
"""Messages that it may be ahead, however large."""


async def _at_once() -> None:
    pass


@dataclass
class Out:
    """The writing end: `send` to all readers, once `ready`."""

    send: Callable[[Any], Awaitable[object]]
    ready: Callable[[], Awaitable[object]] = _at_once


@dataclass
class In:
    """A reading end: `receive` the next message, once `ready`; `parks` counts its sleeps."""

    receive: Callable[[], Awaitable[Any]]
    ready: Callable[[], Awaitable[object]] = _at_once
    parks: Callable[[], int] = int


@dataclass(frozen=True)
class Setting:
    """What a channel is made for.

    Args:
        readers: how many.
        nbytes: of a message, as it is sent.
        loop: the event loop, by name.
        yield_for: seconds that aioshm's ends yield before they park; None is its default.
        scratch: a folder for files, removed by the command.
    """

    readers: int
    nbytes: int
    loop: str
    yield_for: float | None
    scratch: str

    @property
    def depth(self) -> int:
        """Messages that a writer may be ahead, where that is counted in messages."""
        return max(_AT_LEAST, min(1000, _AHEAD // self.nbytes))

    @property
    def ahead(self) -> int:
        """Bytes that a writer may be ahead, where that is counted in bytes."""
        return max(_AHEAD, _AT_LEAST * self.nbytes)


class Channel(ABC):
    """One writer's way to its readers.

    Args:
        setting: what it is made for.
    """

    blocks = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._pipes = [os.pipe() for _ in range(setting.readers)]
        self._answers = os.pipe()

    def tell(self, address: str) -> None:
        """In the writer: tell all readers where it is."""
        for _, writing in self._pipes:
            os.write(writing, address.encode() + b"\n")

    def hear(self, rank: int) -> str:
        """In a reader: wait until the writer tells where it is."""
        with open(self._pipes[rank][0], closefd=False) as file:
            return file.readline().rstrip("\n")

    def answer(self) -> None:
        """In a reader: tell the writer that it is there."""
        os.write(self._answers[1], b".")

    def hear_answers(self) -> None:
        """In the writer: wait until every reader has answered."""
        for _ in range(self.setting.readers):
            os.read(self._answers[0], 1)

    @abstractmethod
    def writer(self) -> AbstractAsyncContextManager[Out]:
        """Open the writing end."""

    @abstractmethod
    def reader(self, rank: int) -> AbstractAsyncContextManager[In]:
        """Open a reading end."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass in the way that goes with this channel."""
        if self.blocks:
            time.sleep(seconds)  # noqa: ASYNC251
        else:
            await asyncio.sleep(seconds)

    async def aside(self, function: Callable[[], T]) -> T:
        """Call something that blocks, and let a loop run meanwhile: it may have to send."""
        return function() if self.blocks else await asyncio.to_thread(function)

    def drive(self, main: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine of one process to its end."""
        if not self.blocks:
            with asyncio.Runner(loop_factory=new_loop(self.setting.loop)) as runner:
                return runner.run(main)
        try:
            main.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        raise RuntimeError("a channel that blocks was to wait for a loop")
