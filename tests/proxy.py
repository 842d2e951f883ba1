"""A TCP proxy that does to connections what networks do: reset them, refuse them, slow them.

It runs in a thread and a loop of its own, so nothing that a test does to its own loop shows
in it. A reader reaches the writer through it by the same handle with another address::

    dataclasses.replace(handle, address=proxy.address)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal, Self

from tests.helpers import HANG

Direction = Literal["up", "down"]
"""Towards the writer; towards the reader."""
DIRECTIONS: tuple[Direction, ...] = ("up", "down")

_CHUNK = 1 << 16
_RESETS = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST, and drops what is unsent


class Proxy:
    """The proxy, in front of one address; a context manager.

    Args:
        address: where to pass connections on to, ``tcp://host:port``.
        rate: bytes a second that come through in either direction; None is as many as can.

    Attributes:
        address: where it listens, on the same host.
        connections: how many it accepted.
        resets: how many of them it reset.
        passed: bytes that went through, by direction.
    """

    def __init__(self, address: str, rate: float | None = None) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._target = (host.strip("[]"), int(port))
        self._family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        self._rate = rate
        self.connections = self.resets = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._reset_at: dict[Direction, int] = {}
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        # Bound and never listening, it keeps the port ours while nobody is let in.
        self._holder = socket.socket(self._family)
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind((self._target[0], 0))
        self.address = f"tcp://{host}:{self._holder.getsockname()[1]}"
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self.accept()

    # -- what a test does to it --------------------------------------------------------------

    def accept(self) -> None:
        """Let connections in, as it does from the beginning."""
        self._run(self._accept())

    def refuse(self) -> None:
        """Refuse connections from now on; those that are there stay."""
        self._run(self._refuse())

    def reset(self) -> None:
        """Reset all connections there are."""
        self._run(self._reset())

    def reset_after(self, nbytes: int, direction: Direction) -> None:
        """Reset all connections once, after so many more bytes in a direction have passed."""
        self._loop.call_soon_threadsafe(
            lambda: self._reset_at.update({direction: self.passed[direction] + nbytes})
        )

    def _run(self, it: Coroutine[Any, Any, None]) -> None:
        done: concurrent.futures.Future[None] = asyncio.run_coroutine_threadsafe(it, self._loop)
        done.result(HANG)

    # -- in its thread -------------------------------------------------------------------------

    async def _accept(self) -> None:
        host, port = self._holder.getsockname()[:2]
        listener = socket.socket(self._family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What waits in a buffer has left the link already; so the buffers are small.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * _CHUNK)
        listener.bind((host, port))
        self._server = await asyncio.start_server(self._connected, sock=listener, limit=_CHUNK)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self) -> None:
        for task, ends in list(self._open.items()):
            for end in ends:
                end.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RESETS
                )
                end.transport.abort()
            task.cancel()
            self.resets += 1
        self._open.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = ends = [writer]
        try:
            with contextlib.ExitStack() as unless:
                onward = unless.enter_context(socket.socket(self._family))
                onward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * _CHUNK)
                onward.setblocking(False)
                await self._loop.sock_connect(onward, self._target)
                far_reader, far_writer = await asyncio.open_connection(sock=onward, limit=_CHUNK)
                ends.append(far_writer)
                unless.pop_all()
            await asyncio.gather(
                self._pass(reader, far_writer, "up"), self._pass(far_reader, writer, "down")
            )
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or both were reset
        finally:
            self._open.pop(task, None)
            for end in ends:
                end.close()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, direction: Direction
    ) -> None:
        target.transport.set_write_buffer_limits(_CHUNK)
        due = time.monotonic()
        while data := await source.read(_CHUNK if self._rate is None else _CHUNK // 8):
            left = self._reset_at.get(direction, 1 << 63) - self.passed[direction]
            target.write(data[:left])
            self.passed[direction] += min(left, len(data))
            if left <= len(data):
                del self._reset_at[direction]
                await self._reset()
                return
            if self._rate is not None:
                due = max(due, time.monotonic() - 0.1) + len(data) / self._rate
                await asyncio.sleep(due - time.monotonic())
            await target.drain()
        if target.can_write_eof():
            target.write_eof()

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """End it, and all connections through it."""

        async def end() -> None:
            await self._refuse()
            tasks = list(self._open)
            await self._reset()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG)
        self._loop.close()
        self._holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
