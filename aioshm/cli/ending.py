"""How a command ends: by itself, by a signal, or because nobody reads what it says.

The first signal that asks a command to end cancels it; whatever it holds is given back
on the way out. Further ones do not disturb that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine

from aioshm.cli.loops import new_loop

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Cancels the running task at the first signal.

    Attributes:
        number: that signal, 0 before there is one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._interrupt, number)

    def _interrupt(self, number: int) -> None:
        assert self._task is not None
        if not self.number:
            self.number = number
            self._task.cancel()

    def close(self) -> None:
        """Leave signals to others again."""
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)


def run_command(main: Callable[[], Coroutine[object, object, int]], loop: str) -> int:
    """Run a command in an event loop of this name; returns its exit status."""
    try:
        with asyncio.Runner(loop_factory=new_loop(loop)) as runner:
            return runner.run(main())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # before it began, or after all was shown
    except BrokenPipeError:
        # Nobody reads any more; Python flushes once again at exit, and must not fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
