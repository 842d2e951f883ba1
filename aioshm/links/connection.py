"""A connection in a loop: packets in, end of peer out.

The end of a peer shows twice: as EOF on the socket, at once and in any PID namespace,
and as its pidfd becoming readable, which also covers a socket that some forked child
of the peer still holds. Whichever comes first is the end; only the pidfd says that the
process itself has exited and can touch the shared memory no more.

The pid is the kernel's (SO_PEERCRED), never the peer's own word: in another PID
namespace the peer's number means somebody else here.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from typing import Protocol

from aioshm.links.hello import LARGEST

_UCRED = struct.Struct("=iII")
_FDS = 8


def credentials(sock: socket.socket) -> tuple[int, int]:
    """Ask the kernel for the peer's pid (0 if out of sight) and user."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(packed)
    return pid, uid


class Receiver(Protocol):
    """Whom a connection reports to, from callbacks of the loop."""

    def packet(self, connection: Connection, data: bytes, fds: list[int]) -> None:
        """A packet came; the descriptors are the receiver's to close."""

    def ended(self, connection: Connection) -> None:
        """The peer is gone, or let go of the connection; told once."""

    def exited(self, connection: Connection) -> None:
        """The peer's process has exited; told once, after `ended`."""


class Connection:
    """One connected socket, and the pidfd of the process at its other end.

    Args:
        loop: the loop to listen in.
        sock: the connected socket, non-blocking; the connection owns it.
        receiver: whom to tell.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, receiver: Receiver
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._receiver = receiver
        self._pidfd = -1
        self._gone = False
        self._open = True
        self.pid, self.uid = credentials(sock)
        loop.add_reader(self._fd, self._readable)

    def watch_process(self) -> None:
        """Learn of the exit of the peer's process too."""
        if self.pid in (0, os.getpid()):
            return  # out of sight, or this very process
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            # It has exited already, and nobody else will tell.
            self._gone = True
            self._loop.call_soon(self._exit)
            return
        except OSError:
            return  # no descriptor left, or no such call: EOF has to do
        self._loop.add_reader(self._pidfd, self._exit)

    @property
    def watched(self) -> bool:
        """Tell whether `Receiver.exited` is still to come."""
        return self._gone or self._pidfd >= 0

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> bool:
        """Send one packet; False if the peer does not take it (it is gone, or stalled)."""
        try:
            if fds:
                socket.send_fds(self._sock, [data], fds)
            else:
                self._sock.send(data)
        except OSError:
            return False
        return True

    def _readable(self) -> None:
        try:
            data, fds = self._receive()
        except BlockingIOError:
            return
        if data:
            self._receiver.packet(self, data, fds)
        else:
            self._end()

    def _receive(self) -> tuple[bytes, list[int]]:
        fds = array.array("i")
        for _ in range(2):
            try:
                # Not socket.recv_fds, which forgets its flags, so that what it received would
                # be inherited by every program this process starts.
                data, ancillary, *_ = self._sock.recvmsg(
                    LARGEST, socket.CMSG_SPACE(_FDS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:
                # The peer left packets of ours unread. The kernel tells that once, before
                # it hands out what the peer had sent.
                continue
            except BlockingIOError:
                raise
            except OSError:
                break
            for level, kind, packed in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(packed[: len(packed) // fds.itemsize * fds.itemsize])
            return data, fds.tolist()
        return b"", []

    def _end(self) -> None:
        if self._open:
            self.hang_up()
            self._receiver.ended(self)

    def _exit(self) -> None:
        if not self.watched:
            return  # closed meanwhile
        self._forget_process()
        # What the peer sent before it exited (a goodbye) is still to be read.
        while self._open:
            self._readable_or_end()
        self._receiver.exited(self)

    def _readable_or_end(self) -> None:
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            self._end()
        else:
            self._readable()

    def _forget_process(self) -> None:
        self._gone = False
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(pidfd)
            os.close(pidfd)

    def hang_up(self) -> None:
        """Close the socket, and go on watching the process."""
        if self._open:
            self._open = False
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._sock.close()

    def close(self) -> None:
        """Close all; the receiver hears nothing more. Safe to call twice."""
        self.hang_up()
        self._forget_process()

    def abandon(self) -> None:
        """Close all in a forked child, touching no loop."""
        self._open = False
        self._sock.close()
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)
