"""Real processes for tests, and a look at what a process holds.

A `Child` runs one coroutine function of a test module in a fresh interpreter and talks
over a pipe, so a test can say exactly what happens in which process and when.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from aioshm import MessageQueue, Reader, Writer

ROOT = Path(__file__).resolve().parent.parent
HANG = 30.0
"""Seconds after which a test calls it a hang."""
_TURNS = 100


def current_loop() -> str:
    """Name the running loop: ``asyncio`` or ``uvloop``."""
    return "uvloop" if isinstance(asyncio.get_running_loop(), uvloop.Loop) else "asyncio"


class Pipe:
    """One end of the pipe between a test and its child: whole objects, either way."""

    def __init__(self, fd: int) -> None:
        self._connection = Connection(fd)

    def send(self, obj: Any) -> None:
        """Send one object."""
        self._connection.send(obj)

    async def receive(self, timeout: float = HANG) -> Any:
        """Wait for one object without blocking the loop."""
        return await asyncio.to_thread(self.receive_blocking, timeout)

    def receive_blocking(self, timeout: float = HANG) -> Any:
        """Wait for one object."""
        if not self._connection.poll(timeout):
            raise AssertionError(f"nothing came through the pipe within {timeout} s")
        return self._connection.recv()

    def ready(self) -> bool:
        """Tell whether there is an object, or the end."""
        return self._connection.poll()

    def fileno(self) -> int:
        """Its descriptor, readable when there is an object."""
        return self._connection.fileno()

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


ChildMain = Callable[..., Awaitable[object]]


class Child:
    """A process that runs ``await function(pipe, *args)``.

    Args:
        function: a coroutine function at the top of a test module.
        args: picklable; `Handle`s are.
        loop: ``asyncio`` or ``uvloop``; None takes the running loop's kind.
        prefix: a command that runs another, such as a machine's of `tests.networks`.
    """

    def __init__(
        self,
        function: ChildMain,
        *args: Any,
        loop: str | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "error", "-m", "tests.helpers", str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(
                [*prefix, *command],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd=ROOT,
            )
        self.pipe = Pipe(ours.detach())
        self.pipe.send((function.__module__, function.__qualname__, args, loop or current_loop()))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def receive(self, timeout: float = HANG) -> Any:
        """Wait for what the child sends; an exception it died of is raised here."""
        try:
            got = await self.pipe.receive(timeout)
        except EOFError:
            raise AssertionError(f"the child ended with {self.process.wait(HANG)}") from None
        if isinstance(got, BaseException):
            raise got
        return got

    def send(self, obj: Any) -> None:
        """Send the child an object."""
        self.pipe.send(obj)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        await self.join(expect=-signal.SIGKILL)

    async def join(self, expect: int = 0) -> None:
        """Wait until it ends by itself."""
        code = await asyncio.to_thread(self.process.wait, HANG)
        assert code == expect, f"the child ended with {code} where {expect} was expected"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(HANG)
        self.pipe.close()


async def _run(pipe: Pipe, function: ChildMain, args: tuple[Any, ...]) -> None:
    try:
        await function(pipe, *args)
    except BaseException as error:
        pipe.send(error)
        raise


def _main(fd: int) -> None:
    pipe = Pipe(fd)
    module, name, args, loop = pipe.receive_blocking()
    function = getattr(importlib.import_module(module), name)
    run = uvloop.run if loop == "uvloop" else asyncio.run
    run(_run(pipe, function, args))
    pipe.close()


def descriptors(pid: int | str = "self") -> dict[str, str]:
    """Look at what a process has open: number to what it is, without the look itself."""
    folder = Path(f"/proc/{pid}/fd")
    found = {}
    for entry in os.listdir(folder):
        try:
            found[entry] = os.readlink(folder / entry)
        except FileNotFoundError:
            pass  # the descriptor that listed the folder
    return found


def mappings(pid: int | str = "self") -> set[str]:
    """Look at which of aioshm's segments a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line for line in lines if "memfd:aioshm" in line}


def children() -> set[int]:
    """Look at which child processes there are, zombies included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            pass  # the thread ended between the listing and the look
    return found


async def pair(**options: Any) -> tuple[Writer, Reader]:
    """Make both ends of a queue in this process and loop, ready."""
    writer = MessageQueue.create(1, **options)
    reader = MessageQueue.create_from_handle(writer.handle, 0)
    await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
    return writer, reader


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until something is so.

    What takes more than some turns of this loop takes another process, which may need the core.
    """
    async with asyncio.timeout(HANG):
        for turn in itertools.count():
            if condition():
                return
            await asyncio.sleep(0 if turn < _TURNS else 0.001)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
