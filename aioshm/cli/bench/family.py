"""The processes of one measurement: forks of the child that the command started.

They are forked before there is a loop, a thread or a queue, so they begin alike
whatever is measured, and within milliseconds; and what the peers share by inheritance
(pipes, semaphores, mappings) can be made before. No process outlives the one that made
it: the kernel kills it then, whatever it is doing.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_CPUCLOCK_SCHED = 2  # the low bits of a process's CPU clock id, as clock_getcpuclockid gives it


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it has ended already


def cpu_of(pids: list[int]) -> list[int]:
    """The CPU time in nanoseconds that each process has used, all its threads together."""
    return [time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids]


class Family:
    """The forked processes of a measurement.

    Attributes:
        pids: who they are, in the order in which they were forked.
    """

    def __init__(self) -> None:
        self.pids: list[int] = []
        self._results: list[int] = []

    def fork(self, name: str, run: Callable[[], dict[str, Any]], tell: Callable[..., None]) -> None:
        """Run something in a process of its own; `tell` tells the command of its error."""
        reading, writing = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            os.close(writing)
            self.pids.append(pid)
            self._results.append(reading)
            return
        status = 1
        try:
            die_with(parent)
            with open(writing, "w") as file:
                json.dump(run(), file)
            status = 0
        except Exception as error:
            tell("error", text=f"{name}: {type(error).__name__}: {error}")
        finally:
            os._exit(status)

    def collect(self) -> list[dict[str, Any]]:
        """Wait until all of them have ended, and give their results."""
        results = []
        for pid, fd in zip(self.pids, self._results, strict=True):
            with open(fd) as file:
                text = file.read()
            os.waitpid(pid, 0)
            # Without a result it has told its error, which ends the measurement.
            results.append(json.loads(text) if text else {"messages": 0, "wrong": 0})
        return results
