"""The reader's half of the local link: knocks, is let in, hears of the writer's end.

local.py draws the conversation. A connection is refused at once where nobody listens
(the writer died), and waits where the writer's loop is busy or not yet running; a full
backlog is knocked at again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from typing import Protocol

from aioshm.errors import AdmissionRefused, AioshmError, QueueShutDown, WriterDied
from aioshm.links import hello
from aioshm.links.connection import Connection
from aioshm.links.folder import address
from aioshm.links.forks import guard

_CONNECT_AGAIN = 0.01


class Guest(Protocol):
    """The reader, as its link sees it; called from callbacks of the loop."""

    def joined(self, welcome: hello.Welcome, fds: list[int]) -> None:
        """The writer let us in; the descriptors are ours."""

    def ready(self) -> None:
        """All readers have joined."""

    def writer_gone(self) -> None:
        """The writer's process or its link is gone."""

    def refused(self, error: AioshmError) -> None:
        """We did not get in."""


class LocalClient:
    """The reader's half: asks to be let in, then listens for the writer's end.

    Args:
        guest: the reader, held weakly.
        path: the writer's socket.
        token: the 32 bytes that get us in.
        rank: the rank we ask for.
    """

    def __init__(self, guest: Guest, path: str, token: bytes, rank: int) -> None:
        self._guest = weakref.ref(guest)
        self._path = path
        self._hello = hello.pack_hello(rank, os.getpid(), token)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._joined = False
        self._closed = False
        guard(self)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to knock, in this loop."""
        self._loop = loop
        self._connect()

    @property
    def pid(self) -> int:
        """The writer's pid as the kernel says, 0 if it is not known."""
        return self._connection.pid if self._connection is not None else 0

    def _connect(self) -> None:
        assert self._loop is not None
        self._retry = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                sock.setblocking(False)
                with address(self._path) as short:
                    sock.connect(short)
                sock.send(self._hello)
                self._connection = Connection(self._loop, sock, self)
            except BaseException:
                sock.close()
                raise
        except BlockingIOError:
            # The backlog is full. Both loops' own connect would call this connected.
            self._retry = self._loop.call_later(_CONNECT_AGAIN, self._connect)
            return
        except (ConnectionError, FileNotFoundError) as error:
            self._refused(
                WriterDied(
                    f"nobody admits readers at {self._path} ({error.strerror}): the writer died, "
                    "closed, or runs in another file system; get a fresh handle from a live writer"
                )
            )
            return
        except OSError as error:
            self._refused(AdmissionRefused(f"cannot reach the writer at {self._path}: {error}"))
            return
        self._connection.watch_process()

    def _refused(self, error: AioshmError) -> None:
        self.close()
        guest = self._guest()
        if guest is not None:
            guest.refused(error)

    def packet(self, connection: Connection, data: bytes, fds: list[int]) -> None:
        """Hear the writer's answer."""
        guest = self._guest()
        welcome = None if self._joined else hello.unpack_welcome(data)
        if welcome is None or guest is None or len(fds) != 4:
            for fd in fds:
                os.close(fd)
        if guest is None:
            return
        if welcome is not None and len(fds) == 4:
            self._joined = True
            guest.joined(welcome, fds)
        elif welcome is not None:
            self._refused(
                AdmissionRefused(
                    f"the writer's welcome brought {len(fds)} of 4 descriptors: this process has "
                    "none left; raise its limit (ulimit -n) and join again"
                )
            )
        elif data == hello.READY and self._joined:
            guest.ready()
        elif data == hello.CLOSED:
            self._refused(QueueShutDown("the writer closed the queue before it let this reader in"))
        elif data[:1] == hello.REFUSED:
            self._refused(AdmissionRefused(data[1:].decode(errors="replace")))
        else:
            self._refused(AdmissionRefused(f"what listens at {self._path} is no aioshm writer"))

    def ended(self, connection: Connection) -> None:
        """Notice the writer's end."""
        guest = self._guest()
        if not self._joined:
            self._refused(
                WriterDied(
                    f"the writer (pid {connection.pid}) was gone before it answered at "
                    f"{self._path}; get a fresh handle from a live writer",
                    pid=connection.pid,
                )
            )
        elif guest is not None:
            guest.writer_gone()

    def exited(self, connection: Connection) -> None:
        """The writer's exit says no more than its end did."""

    def close(self, *, goodbye: bool = False) -> None:
        """Hang up, with a goodbye if we were in; safe to call twice."""
        if self._retry is not None:
            self._retry.cancel()
        if self._connection is not None and not self._closed:
            if goodbye and self._joined:
                self._connection.send(hello.GOODBYE)
            self._connection.close()
        self._closed = True

    def abandon(self) -> None:
        """Close all in a forked child, touching no loop."""
        if self._connection is not None:
            self._connection.abandon()
