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
from dataclasses import dataclass
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
    """The forked processes of a measurement; if one of them breaks, all end.

    Args:
        tell: tells the command of an error.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._members: list[_Member] = []
        signal.signal(signal.SIGCHLD, self._look)

    @property
    def pids(self) -> list[int]:
        """Who they are, in the order in which they were forked."""
        return [member.pid for member in self._members]

    def _look(self, *_: object) -> None:
        """End the measurement if a process ended badly; nobody may be waiting for it."""
        for member in self._members:
            try:
                # Not reaped here: `collect` does that.
                ended = os.waitid(os.P_PID, member.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                continue  # collected
            if ended is not None and ended.si_status:
                code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                self._tell("error", text=member.ended(code))
                os._exit(1)

    def fork(self, name: str, run: Callable[[], dict[str, Any]]) -> None:
        """Run something in a process of its own."""
        reading, writing = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            os.close(writing)
            self._members.append(_Member(name, pid, reading))
            # It may have ended before it was a member, when the signal told nobody.
            self._look()
            return
        status = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with(parent)
            with open(writing, "w") as file:
                json.dump(run(), file)
            status = 0
        except Exception as error:
            self._tell("error", text=f"{name}: {type(error).__name__}: {error}")
        finally:
            os._exit(status)

    def collect(self) -> list[dict[str, Any]]:
        """Wait until all of them have ended, and give their results."""
        results = []
        for member in self._members:
            with open(member.result) as file:
                text = file.read()
            _, status = os.waitpid(member.pid, 0)
            if code := os.waitstatus_to_exitcode(status):
                raise ChildProcessError(member.ended(code))
            results.append(json.loads(text))
        return results


@dataclass(frozen=True)
class _Member:
    name: str
    pid: int
    result: int

    def ended(self, code: int) -> str:
        """Say how it ended."""
        how = f"by signal {-code}" if code < 0 else f"with status {code}"
        return f"{self.name} (pid {self.pid}) ended {how}"
