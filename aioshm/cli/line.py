"""The line between a child process of a command and its parent: the child's side.

::

    stdin    one JSON object a line: first what to be, then commands
    stdout   one JSON object a line: events

The end of stdin is the end of the parent, however it died: whatever the child is doing
is cancelled, its queue closes, and it leaves. So nobody has to hunt for it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from typing import Any

_STDIN, _STDOUT = 0, 1


class Line:
    """The child's side of the line.

    Attributes:
        cut: the parent is gone.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._commands: deque[dict[str, Any]] = deque()
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.cut = False

    def first(self) -> dict[str, Any]:
        """Wait for the first command, before there is a loop; empty if the parent is gone."""
        while not self._commands:
            if not self._take(os.read(_STDIN, 65536)):
                return {}
        return self._commands.popleft()

    def start(self, task: asyncio.Task[None]) -> None:
        """Listen in the running loop; the end of the parent cancels `task`."""
        self._task = task
        os.set_blocking(_STDIN, False)
        asyncio.get_running_loop().add_reader(_STDIN, self._readable)

    def stop(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(_STDIN)

    def _readable(self) -> None:
        try:
            data = os.read(_STDIN, 65536)
        except BlockingIOError:
            return
        if not self._take(data):
            self.stop()
            self.cut = True
            if self._task is not None:
                self._task.cancel()

    def _take(self, data: bytes) -> bool:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._commands += [json.loads(line) for line in lines]
        if self._commands:
            self._heard.set()
        return bool(data)

    def tell(self, event: str, **values: Any) -> None:
        """Send an event; a short one arrives whole or not at all, even at a SIGKILL.

        Raises:
            BrokenPipeError: the parent is gone.
        """
        line = json.dumps({"event": event, **values}).encode() + b"\n"
        while line:
            line = line[os.write(_STDOUT, line) :]

    def heard(self) -> str | None:
        """Take the next command if one came, without waiting."""
        return str(self._commands.popleft()["do"]) if self._commands else None

    async def hear(self) -> str:
        """Wait for the next command."""
        while (command := self.heard()) is None:
            self._heard.clear()
            await self._heard.wait()
        return command
