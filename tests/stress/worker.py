"""A worker as its supervisor sees it, and the crew of all workers of one case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tests.helpers import HANG
from tests.stress.wire import Wire
from tests.stress.witness import Witness

if TYPE_CHECKING:
    from tests.stress.nursery import Nursery, Role


def linger(source: random.Random, most: float) -> None:
    """Let up to `most` seconds pass, finer than a loop can sleep; a supervisor has time."""
    time.sleep(source.random() * most)


class Worker:
    """One forked process.

    Args:
        role: what it does, for messages.
        pid: its process id.
        pidfd: a descriptor of the process, which no reuse of the pid can mislead.
        wire: the wire to it.
        witness: where workers note their progress.
    """

    def __init__(self, role: str, pid: int, pidfd: int, wire: Wire, witness: Witness) -> None:
        self.role, self.pid, self.wire = role, pid, wire
        self._pidfd, self._witness = pidfd, witness
        wire.listen()

    async def expect(self, word: str, moving: int | None = None) -> Any:
        """Wait for ``(word, value)`` and give the value, dropping what else it says before.

        What the worker died of is raised here. A hang is when it says nothing for `HANG`
        seconds.

        Args:
            word: what it is to say.
            moving: a word of the witness; while that moves, the worker is at work and may
                take any time.
        """
        while True:
            before = None if moving is None else self._witness.words[moving]
            try:
                got = await self.wire.receive(HANG)
            except EOFError:
                raise AssertionError(f"{self.role} (pid {self.pid}) ended without a word") from None
            except TimeoutError:
                if moving is not None and self._witness.words[moving] != before:
                    continue
                raise AssertionError(
                    f"HANG: {self.role} (pid {self.pid}, state {self.state()}) did not say "
                    f"{word!r} for {HANG} s"
                ) from None
            if isinstance(got, BaseException):
                raise got
            if got[0] == word:
                return got[1]

    def send(self, *order: Any) -> None:
        """Give an order."""
        self.wire.send(order)

    def state(self) -> str:
        """Look at the process's state in /proc, or ``gone``."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "gone"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that is gone is no error."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + HANG
        while self.state() not in ("T", "Z", "gone"):
            assert time.monotonic() < deadline, f"{self.role} (pid {self.pid}) does not stop"
            os.sched_yield()

    def kill(self) -> float:
        """SIGKILL; returns when, by time.monotonic()."""
        when = time.monotonic()
        self.signal(signal.SIGKILL)
        return when

    async def gone(self) -> None:
        """Wait until the process has exited."""
        loop, exited = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._pidfd, exited.set)
        try:
            async with asyncio.timeout(HANG):
                await exited.wait()
        finally:
            loop.remove_reader(self._pidfd)

    def close(self) -> None:
        """Give the descriptors back."""
        self.wire.close()
        os.close(self._pidfd)


class Crew:
    """All workers of one case; leaving it ends them, and asks those who hang where they are."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._workers: list[Worker] = []

    def start(self, role: Role, *args: Any) -> Worker:
        """Fork a worker that runs ``await role(wire, witness, *args)``."""
        worker = self._nursery.start(role, *args)
        self._workers.append(worker)
        return worker

    async def dismiss(self, worker: Worker) -> None:
        """Wait until a worker has exited, and forget it."""
        await worker.gone()
        self._workers.remove(worker)
        worker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            for worker in self._workers:
                worker.signal(signal.SIGCONT)
                for question in (signal.SIGUSR1, signal.SIGUSR2):
                    worker.signal(question)
                    await asyncio.sleep(0.1)  # so that the answers do not mix
        for worker in self._workers:
            worker.kill()
        for worker in list(self._workers):
            await self.dismiss(worker)
        async with asyncio.timeout(HANG):
            while self._nursery.children():
                await asyncio.sleep(0.001)
