"""A wire between a supervisor and its worker: whole objects either way, without a thread.

Objects are pickled into packets of a SOCK_SEQPACKET pair. What came in waits in an inbox,
so that a cancelled `receive` loses nothing, and a worker in full swing can look for orders
with `order()` at the price of a comparison.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections import deque
from typing import Any

from tests.helpers import HANG

_LARGEST = 1 << 17


class Wire:
    """One end of a wire.

    Args:
        sock: this end of a SOCK_SEQPACKET pair; the wire owns it.

    Attributes:
        ended: the other end is gone; what it had sent is in the inbox.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._inbox: deque[Any] = deque()
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ended = False

    def listen(self) -> None:
        """Take packets in from now on, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        while not self.ended:
            try:
                packet = self._sock.recv(_LARGEST)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # told once, before what the peer had sent
            if packet:
                self._inbox.append(pickle.loads(packet))
            else:
                self.ended = True
                self._forget()
        self._news.set()

    def _forget(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._sock.fileno())
        self._loop = None

    def send(self, obj: Any) -> None:
        """Send one object; a reader of it that is gone is no error."""
        try:
            self._sock.send(pickle.dumps(obj))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def order(self) -> Any:
        """Give the next object if one is there, else None."""
        return self._inbox.popleft() if self._inbox else None

    async def receive(self, timeout: float = HANG) -> Any:
        """Wait for one object.

        Raises:
            EOFError: the other end is gone and has sent nothing more.
            TimeoutError: nothing came in time.
        """
        async with asyncio.timeout(timeout):
            while not self._inbox:
                if self.ended:
                    raise EOFError
                self._news.clear()
                await self._news.wait()
        return self._inbox.popleft()

    def close(self) -> None:
        """Close this end."""
        self._forget()
        self._sock.close()
