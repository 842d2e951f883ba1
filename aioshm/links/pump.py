"""The pump of a ZeroMQ socket: the only code that touches it.

Theory of operation
-------------------
Each socket has a context of its own, so that no two queues share options or fate, and a
*pump*: one callback of the loop, which runs when the socket's descriptor says so, or when
its owner has something to send. It is no task, so nobody can cancel it, no message is
lost in the tick of a cancel, and nothing is pending when a loop ends.

The descriptor is edge-triggered: it tells that the socket's EVENTS may have changed, once.
So a pump goes on until it found, after its last send and receive, that EVENTS has nothing
more for it; and it gives way to the loop after some pieces and calls itself again.

Where no descriptor is left, libzmq does not fail but ends the process (its accept() on a
Unix socket, and its signals). So we look first (`need_descriptors`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq

from aioshm.codec import Buffer
from aioshm.links.forks import guard

AT_ONCE = 8
"""Frames that a pump sends, and receives, before it lets the loop run."""

_DESCRIPTORS = 24
_LITTLE = 1 << 14
_POLLIN = int(zmq.POLLIN)


def snapshot(piece: Buffer) -> Any:
    """Copy a piece into memory of libzmq's, which any number of sends share.

    pyzmq would hold the caller's buffer instead, in a thread of its own; and it keeps
    whatever object it copied from, so that is a view which holds nothing any more.
    Little is copied as fast at each send.
    """
    if type(piece) is bytes and len(piece) < _LITTLE:
        return piece
    with memoryview(piece) as view:
        return zmq.Frame(view, copy=True)


def need_descriptors(count: int) -> None:
    """Make sure that this process may open so many more descriptors.

    Raises:
        OSError: it may not (EMFILE).
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and len(os.listdir("/proc/self/fd")) + count > most:
        raise OSError(errno.EMFILE, f"{count} descriptors are needed, of {most} (ulimit -n)")


class Shell:
    """A context, a socket, its monitor and the pump that serves them once it has a loop.

    Args:
        kind: the type of the socket.
        options: set before anything else.
        events: what the monitor reports; `_report` hears it.
        changed: called after something came in.

    Raises:
        OSError: no descriptor is left.

    Attributes:
        due: it will pump soon.
    """

    def __init__(
        self,
        kind: int,
        options: Mapping[int, int | bytes],
        events: int,
        changed: Callable[[], None],
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = changed
        self.due = self._closed = False
        self._monitor: zmq.Socket[bytes] | None = None
        need_descriptors(_DESCRIPTORS)
        self._context = zmq.Context()
        try:
            self._socket = self._context.socket(kind)
            for option, value in {zmq.LINGER: 0, **options}.items():
                self._socket.setsockopt(option, value)
            if events:
                self._monitor = self._socket.get_monitor_socket(events)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        guard(self)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to pump, in this loop."""
        self._loop = loop
        loop.add_reader(_descriptor(self._socket), self._pump)
        if self._monitor is not None:
            loop.add_reader(_descriptor(self._monitor), self.look)
        loop.call_soon(self.look)

    def wake(self) -> None:
        """There may be something to send: pump soon."""
        if not self.due and not self._closed and self._loop is not None:
            self.due = True
            self._loop.call_soon(self._pump)

    def look(self) -> None:
        """Hear the monitor, and pump."""
        if not self._closed:
            self._hear_monitor()
            self._pump()

    def _pump(self) -> None:
        self.due = False
        for _ in range(AT_ONCE):
            if self._closed:
                return
            sent = self._send()
            # Reading EVENTS, after the last of all calls, is what arms the descriptor again.
            received = bool(pollable(self._socket) & _POLLIN) and self._receive()
            if received:
                self._changed()
            elif not sent:
                self._idle()
                return
        self.wake()

    def _send(self) -> bool:
        """Send something; False if there is nothing to send, or no way to."""
        raise NotImplementedError

    def _receive(self) -> bool:
        """Receive something; False if there is nothing."""
        raise NotImplementedError

    def _idle(self) -> None:
        """There is nothing to send or to receive."""

    def _receive_parts(self) -> list[Any] | None:
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def _hear_monitor(self) -> None:
        while self._monitor is not None and pollable(self._monitor) & _POLLIN:
            packed, _ = self._monitor.recv_multipart(zmq.NOBLOCK)
            event = int.from_bytes(packed[:2], "little")
            self._report(event, int.from_bytes(packed[2:6], "little"))

    def _report(self, event: int, value: int) -> None:
        """Hear what the monitor says."""

    def close(self) -> None:
        """Close the socket, dropping what is on its way; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            for sock in (self._socket, self._monitor):
                if sock is not None:
                    self._loop.remove_reader(_descriptor(sock))
        if self._monitor is not None:
            self._socket.disable_monitor()
        self._socket.close(linger=0)
        self._after_socket()
        self._context.destroy(linger=0)

    def _after_socket(self) -> None:
        """Close what the socket needed as long as it was there."""

    def abandon(self) -> None:
        """In a forked child: close what would keep our peers from seeing our end.

        libzmq's threads do not exist there, and pyzmq touches nothing of its parent's. So
        the descriptors are found by what they are.
        """
        self._closed = True
        _close_sockets(self._is_ours)

    def _is_ours(self, sock: socket.socket) -> bool:
        """Tell whether a socket of this process is one of this pump's."""
        raise NotImplementedError


def pollable(sock: zmq.Socket[bytes]) -> int:
    """What the socket is ready for; it has to be asked after any call, or it may fall silent."""
    return int(sock.getsockopt(zmq.EVENTS))


def _descriptor(sock: zmq.Socket[bytes]) -> int:
    return int(sock.getsockopt(zmq.FD))


def names(sock: socket.socket) -> list[Any]:
    """The addresses of a socket's ends, as far as it has any."""
    found = [sock.getsockname()]
    with contextlib.suppress(OSError):
        found.append(sock.getpeername())
    return found


def _close_sockets(ours: Callable[[socket.socket], bool]) -> None:
    for entry in Path("/proc/self/fd").iterdir():
        fd = int(entry.name)
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            continue  # no socket, or the descriptor of the listing itself
        if ours(sock):
            sock.close()
        else:
            sock.detach()
