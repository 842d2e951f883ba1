"""The child processes of a command: started, listened to, killed on purpose, never left behind.

The parent holds the other end of each child's line (line.py). Leaving the `async with`
block of `Children` closes the lines, upon which the children leave by themselves; who
hangs instead is killed. A child that ends, errs or falls silent against
the plan is trouble, and whoever waits for any child gets it. An error of one end is often
what came of the death of another, so that a death goes before the errors around it.

Each child has a process group of its own, so that a Ctrl-C in the terminal reaches the
parent alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, Any, Self

Event = dict[str, Any]

HANG = 20.0
"""Seconds of silence, or of not leaving, after which a child counts as hanging."""

_DEATH_FIRST = 0.2
_KEEP = 4096


class ChildFailed(Exception):
    """A child ended, erred or fell silent against the plan."""


class Children:
    """The child processes of one act.

    Args:
        module: what each of them runs, as in ``python -m``.
        loop: the event loop they run, by name.
        hang: seconds of silence, or of not leaving, after which a child counts as hanging.
        env: their environment; None is the parent's.
    """

    def __init__(
        self, module: str, loop: str, hang: float = HANG, env: Mapping[str, str] | None = None
    ) -> None:
        self.module = module
        self.loop = loop
        self.hang = hang
        self.env = env
        self._all: list[Child] = []
        self._loop = asyncio.get_running_loop()
        self._trouble: asyncio.Future[None] = self._loop.create_future()
        self._suspicion = ""
        self._judging: asyncio.TimerHandle | None = None

    def start(self, name: str) -> Child:
        """Start a child; it waits to be told what to be."""
        child = Child(self, name)
        self._all.append(child)
        return child

    def trouble(self, why: str) -> None:
        """Have whoever waits for a child raise ChildFailed; the first trouble counts."""
        if not self._trouble.done():
            self._trouble.set_exception(ChildFailed(why))

    def suspect(self, why: str) -> None:
        """The same, unless there is another trouble in a moment that may be the cause."""
        if self._judging is None:
            self._suspicion = why
            self._judging = self._loop.call_later(_DEATH_FIRST, self.trouble, why)

    async def wait(self, future: asyncio.Future[None], within: float) -> bool:
        """Wait for something of a child's; False if it did not come in time.

        Raises:
            ChildFailed: there is trouble, with whichever child.
        """
        done, _ = await asyncio.wait(
            {future, self._trouble}, timeout=within, return_when=asyncio.FIRST_COMPLETED
        )
        if self._trouble in done:
            self._trouble.result()
        return future in done

    async def sleep(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ChildFailed: there is trouble meanwhile.
        """
        await self.wait(self._loop.create_future(), seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._all:
            child.hang_up()
        exits = [child.exited for child in self._all]
        try:
            if exits:
                await asyncio.wait(exits, timeout=self.hang)
        finally:
            stuck = [child.name for child in self._all if not child.dispose()]
            if stuck:
                self.trouble(f"{', '.join(stuck)} did not leave when told to")
            if self._judging is not None:
                self._judging.cancel()
                self.trouble(self._suspicion)
            trouble = self._trouble.exception() if self._trouble.done() else None
        if kind is None and trouble is not None:
            raise trouble


class Child:
    """One child process, as its parent sees it; `Children.start` makes it.

    Attributes:
        name: what it is called in reports.
        exited: done when the process has exited.
        silent: done when neither it nor any process that it started can say anything more.
    """

    def __init__(self, children: Children, name: str) -> None:
        self.name = name
        self._children = children
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._something: asyncio.Future[None] | None = None
        self._killed = self._finished = self._erred = self._hung_up = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", children.module],
            env=children.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        self.exited: asyncio.Future[None] = self._loop.create_future()
        self.silent: asyncio.Future[None] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._exit)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out = _Pipe(self._process.stdout, self._hear, self.silent)
        self._err = _Pipe(self._process.stderr, self._complaint)
        self._complaints = b""
        self._rest = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The last line it wrote to stderr."""
        lines = self._complaints.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    # -- telling it ---------------------------------------------------------------------------

    def be(self, act: str, end: str, **values: Any) -> None:
        """Tell it what to be: an end of an act, with its arguments."""
        self.ask({"act": act, "end": end, **values})

    def ask(self, values: dict[str, Any]) -> None:
        """Tell it what to do, first of all."""
        self._tell({"loop": self._children.loop, **values})

    def do(self, command: str) -> None:
        """Give it a command."""
        self._tell({"do": command})

    def _tell(self, values: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(values).encode() + b"\n")
        except BrokenPipeError:
            pass  # its exit is trouble by itself

    def kill(self) -> int:
        """SIGKILL it, as planned; returns the time just before."""
        self._killed = True
        now = time.monotonic_ns()
        os.kill(self.pid, signal.SIGKILL)
        return now

    async def gone(self) -> None:
        """Wait until it has exited."""
        await asyncio.wait([self.exited])

    # -- hearing from it ----------------------------------------------------------------------

    async def expect(self, event: str, progress: Callable[[Event], None] | None = None) -> Event:
        """Wait for an event; what it reports in between as progress goes to `progress`.

        Raises:
            ChildFailed: trouble with any child, or silence.
        """
        while True:
            if not self._events:
                self._something = self._loop.create_future()
                if not await self._children.wait(self._something, self._children.hang):
                    raise ChildFailed(
                        f"{self.name} (pid {self.pid}) hangs: {self._children.hang:g} s of "
                        f"silence where '{event}' was expected"
                    )
                continue
            said = self._events.popleft()
            if said["event"] == event:
                return said
            if said["event"] != "progress":
                raise ChildFailed(f"{self.name} said '{said['event']}' where '{event}' was due")
            if progress is not None:
                progress(said)

    def last_progress(self) -> Event:
        """Take what it reported as progress last, all that came before its end included."""
        said = [one for one in self._events if one["event"] == "progress"]
        return said[-1] if said else {}

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if said["event"] == "error":
                self._erred = True
                self._children.suspect(f"{self.name} (pid {self.pid}): {said['text']}")
                continue
            self._finished = self._finished or said["event"] == "done"
            self._events.append(said)
        if self._something is not None and lines and not self._something.done():
            self._something.set_result(None)

    def _complaint(self, data: bytes) -> None:
        self._complaints = (self._complaints + data)[-_KEEP:]

    def _exit(self) -> None:
        """The process has exited: read what it left in its pipes, then judge."""
        self._forget_process()
        self._out.drain()
        self._err.drain()
        status = self._process.wait()
        left = self._finished or self._hung_up
        if not (self._killed or self._erred) and (status or not left):
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            words = f": {self.last_words}" if self.last_words else ""
            self._children.trouble(
                f"{self.name} (pid {self.pid}) ended {how}, not as planned{words}"
            )
        if not self.exited.done():
            self.exited.set_result(None)

    # -- its end ------------------------------------------------------------------------------

    def _forget_process(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def hang_up(self) -> None:
        """Close its line: it leaves, whatever it is doing."""
        self._hung_up = True
        assert self._process.stdin is not None
        self._process.stdin.close()

    def dispose(self) -> bool:
        """See to it that no process and no descriptor is left; False if it had to be killed."""
        self._forget_process()
        left = self._process.poll() is not None
        if not left:
            self._process.kill()
            self._process.wait()
        self._out.close()
        self._err.close()
        return left


class _Pipe:
    """The reading end of a pipe from a child, in the running loop."""

    def __init__(
        self,
        pipe: IO[bytes],
        take: Callable[[bytes], None],
        end: asyncio.Future[None] | None = None,
    ) -> None:
        self._pipe, self._take, self._end = pipe, take, end
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def _read(self) -> bool:
        try:
            data = os.read(self._pipe.fileno(), 65536)
        except BlockingIOError:
            return False
        if data:
            self._take(data)
        else:
            self.close()
        return bool(data)

    def drain(self) -> None:
        """Read what is there."""
        while not self._pipe.closed and self._read():
            pass

    def close(self) -> None:
        """Read no more, and close it."""
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
            if self._end is not None and not self._end.done():
                self._end.set_result(None)
