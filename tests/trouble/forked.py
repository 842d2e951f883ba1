"""A child by fork: it has all imports already, so that hundreds of them cost little.

For processes that are killed at each of many places. All others are `Child`s, as the
processes of users are.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.helpers import HANG, ChildMain, Pipe


async def in_forked_child(look: Callable[[], object]) -> str:
    """Fork, run `look` there outside any loop, and give what it raised or returned, as text."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = repr(look())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(theirs, said.encode())
        os._exit(0)
    os.close(theirs)
    said = (await asyncio.to_thread(os.read, ours, 10_000)).decode()
    os.close(ours)
    os.waitpid(pid, 0)
    return said


class Forked:
    """A forked process that runs ``await function(pipe, *args)`` in an asyncio loop of its own."""

    def __init__(self, function: ChildMain, *args: Any) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            self._run(Pipe(theirs.detach()), function, *args)
        theirs.close()
        self.pipe = Pipe(ours.detach())
        self._pidfd = os.pidfd_open(self.pid)
        self._code: int | None = None

    def _run(self, pipe: Pipe, function: ChildMain, *args: Any) -> None:
        code = 1
        try:
            signal.alarm(int(HANG))
            asyncio.run(function(pipe, *args))  # type: ignore[arg-type]
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    async def _readable(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(fd, ready.set)
        try:
            async with asyncio.timeout(HANG):
                await ready.wait()
        finally:
            loop.remove_reader(fd)

    async def receive(self) -> Any:
        """Wait for an object; EOFError if the process ended instead."""
        await self._readable(self.pipe.fileno())
        return self.pipe.receive_blocking()

    async def join(self, expect: int = 0) -> None:
        """Wait until it ends."""
        await self._readable(self._pidfd)
        code = self._reap()
        assert code == expect, f"the process ended with {code} where {expect} was expected"

    def _reap(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()
        os.close(self._pidfd)
        self.pipe.close()
