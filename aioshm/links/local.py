"""The writer's half of the local link: admission, and then the end of the peer alone.

::

    writer                                        reader
    listens in the user's folder    ◄── hello ──  connects: magic, version, token, rank, pid
    user, token, rank all right?
      a fresh slot for it           ── welcome ►  layout, slot, position, 4 descriptors
      or                            ── refused ►  the reason
    all ranks have joined           ──  ready  ►
                                    ◄─ goodbye ─  leaves: its rank is free
    EOF or exit                     ◄─────────►   the other one died

After `ready` not one byte moves until one end leaves. Who does not say hello within a
few seconds, or says something else, is dropped without a word and disturbs nobody.

The link holds its owner weakly, and the loop holds the link: a queue that is dropped
without `aclose` can be collected, and its peers see EOF.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import weakref
from typing import Protocol

from aioshm.errors import AdmissionRefused
from aioshm.links import hello
from aioshm.links.connection import Connection
from aioshm.links.folder import listen
from aioshm.links.forks import guard

logger = logging.getLogger("aioshm")

_HELLO_WITHIN = 5.0
_ACCEPT_AGAIN = 0.1
# No descriptor or memory for one more connection: the listener stays readable, so
# going on at once would spin.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Host(Protocol):
    """The writer, as its link sees it; called from callbacks of the loop."""

    def admit(self, connection: Connection, rank: int) -> tuple[hello.Welcome, tuple[int, ...]]:
        """Let a reader in, or raise AdmissionRefused."""

    def departed(self, connection: Connection, *, goodbye: bool) -> None:
        """An admitted reader left, with a goodbye or without."""

    def exited(self, connection: Connection) -> None:
        """The process of a reader that departed has exited."""


class LocalServer:
    """The writer's half: listens from the start, admits once it has a loop.

    Args:
        host: the writer, held weakly.
        name: how the socket's file name begins.
        token: the 32 bytes that a reader must know.
        backlog: connections that may wait while the loop is not running.
    """

    def __init__(self, host: Host, name: str, token: bytes, backlog: int) -> None:
        self._host = weakref.ref(host)
        self._token = token
        self._listener, self.path = listen(name, backlog)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._strangers: dict[Connection, asyncio.TimerHandle] = {}
        self._admitted: set[Connection] = set()
        guard(self)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept in this loop."""
        self._loop = loop
        loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._loop is not None
        while self._listener.fileno() >= 0:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    logger.warning("cannot admit readers at %s for now: %s", self.path, error)
                    self._loop.remove_reader(self._listener.fileno())
                    self._loop.call_later(_ACCEPT_AGAIN, self._accept_again)
                    return
                continue  # the peer was gone before we came to it
            sock.setblocking(False)
            connection = Connection(self._loop, sock, self)
            timer = self._loop.call_later(_HELLO_WITHIN, self._drop, connection)
            self._strangers[connection] = timer

    def _accept_again(self) -> None:
        if self._loop is not None and self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)
            self._accept()

    def _drop(self, connection: Connection) -> None:
        self._strangers.pop(connection).cancel()
        connection.close()

    def packet(self, connection: Connection, data: bytes, fds: list[int]) -> None:
        """Hear a hello from a stranger, or a goodbye from a reader."""
        for fd in fds:
            os.close(fd)  # nobody asked for descriptors
        if connection not in self._strangers:
            if data == hello.GOODBYE:
                # The byte itself, not the EOF behind it: a forked child may keep that back.
                connection.close()
                self._departed(connection, goodbye=True)
            return
        said = hello.unpack_hello(data, self._token)
        if said is not None and connection.uid != os.geteuid():
            said = f"user {connection.uid} is not the writer's user {os.geteuid()}"
        if isinstance(said, hello.Hello):
            said = self._admit(connection, said)
        if isinstance(said, str):
            logger.info("refused pid %d at %s: %s", connection.pid, self.path, said)
            connection.send(hello.pack_refusal(said))
        if connection in self._strangers:
            self._drop(connection)

    def _admit(self, connection: Connection, said: hello.Hello) -> str | None:
        """Let a reader in; returns why not, if not."""
        host = self._host()
        if host is None:
            return None
        try:
            welcome, fds = host.admit(connection, said.rank)
        except AdmissionRefused as error:
            return str(error)
        self._strangers.pop(connection).cancel()
        self._admitted.add(connection)
        connection.watch_process()
        if not connection.send(hello.pack_welcome(welcome), fds):
            connection.hang_up()
            self.ended(connection)
        return None

    def ended(self, connection: Connection) -> None:
        """Notice the end of a stranger or of a reader."""
        if connection in self._strangers:
            self._drop(connection)
            return
        if not connection.watched:
            connection.close()
        self._departed(connection, goodbye=False)

    def _departed(self, connection: Connection, *, goodbye: bool) -> None:
        if not connection.watched:
            self._admitted.discard(connection)
        host = self._host()
        if host is not None:
            host.departed(connection, goodbye=goodbye)

    def exited(self, connection: Connection) -> None:
        """Notice that a reader's process can touch nothing any more."""
        self._admitted.discard(connection)
        host = self._host()
        if host is not None:
            host.exited(connection)

    def broadcast(self, packet: bytes) -> None:
        """Send one packet to every reader that was let in."""
        for connection in self._admitted:
            connection.send(packet)

    def close(self, *, goodbye: bool = False) -> None:
        """Hang up on everybody, remove the socket's file; safe to call twice.

        With a goodbye, whoever waits to be let in hears that the queue closed; else it
        looks as if the writer had died.
        """
        if self._listener.fileno() < 0:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._listener.fileno())
        if goodbye:
            self._turn_away()
        for connection, timer in self._strangers.items():
            timer.cancel()
            if goodbye:
                connection.send(hello.CLOSED)
            connection.close()
        for connection in self._admitted:
            connection.close()
        self._strangers.clear()
        self._admitted.clear()
        self._listener.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _turn_away(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                sock.setblocking(False)
                try:
                    sock.recv(hello.LARGEST)  # left unread it would come back as a reset
                    sock.send(hello.CLOSED)
                except OSError:
                    pass  # it did not wait for an answer

    def abandon(self) -> None:
        """Close all in a forked child; the socket's file is the parent's."""
        self._listener.close()
        for connection in (*self._strangers, *self._admitted):
            connection.abandon()
