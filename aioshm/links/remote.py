"""Bodies over ZeroMQ: the sockets under the flow protocol, and nothing else.

Theory of operation
-------------------
The writer owns a ROUTER, each reader a DEALER, each with a context of its own, so that
no two queues share options or fate. A *pump* is the only code that touches a socket: one
callback of the loop, which runs when the socket's descriptor says so, or when its owner
has something to send. It is no task, so nobody can cancel it, no message is lost in the
tick of a cancel, and nothing is pending when a loop ends.

The descriptor is edge-triggered: it tells that the socket's EVENTS may have changed, once.
So a pump goes on until it found, after its last send and receive, that EVENTS has nothing
more for it; and it gives way to the loop after some pieces and calls itself again.

* ROUTER_MANDATORY makes a lost connection an error (EHOSTUNREACH) and not a silent drop;
  without a high-water mark nothing else keeps a send back, and credit bounds the pipe.
* Pieces are snapshots in libzmq's own memory (`snapshot`), which all readers share by its
  count of references; pyzmq would hold the caller's buffer instead, in a thread of its own.
* IMMEDIATE keeps a DEALER from queueing for a connection that is not there, so what was
  meant for an old one never comes ahead of the HELLO on the new one.
* Where no descriptor is left, libzmq does not fail but ends the process (its accept() on a Unix
  socket, and its signals). So we look first (`need_descriptors`).
* The writer binds by itself and hands libzmq the listening descriptor (USE_FD): libzmq's own
  bind would take a path over from whoever has it, and remove it when it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from aioshm.codec import Buffer
from aioshm.links.flow import Breach, Receiver, Sender
from aioshm.links.flow_wire import LARGEST_TO_READER, LARGEST_TO_WRITER
from aioshm.links.folder import address
from aioshm.links.forks import guard

logger = logging.getLogger("aioshm")

_AT_ONCE = 8
_CONNECT_AGAIN = 0.1
_DESCRIPTORS = 24


def snapshot(piece: Buffer) -> Any:
    """Copy a piece into memory of libzmq's, which any number of sends share."""
    return zmq.Frame(piece, copy=True)


def need_descriptors(count: int) -> None:
    """Make sure that this process may open so many more descriptors.

    Raises:
        OSError: it may not (EMFILE).
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and len(os.listdir("/proc/self/fd")) + count > most:
        raise OSError(errno.EMFILE, f"{count} descriptors are needed, of {most} (ulimit -n)")


class _Shell:
    """What both sides share: a context, a socket, and a pump in a loop.

    Args:
        loop: the loop to pump in.
        kind: the type of the socket.
        options: set before anything else.
        changed: called after something came in.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kind: int,
        options: dict[zmq.SocketOption, int],
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._due = self._closed = False
        self._endpoint = ""
        need_descriptors(_DESCRIPTORS)
        self._context = zmq.Context()
        try:
            self._socket = self._context.socket(kind)
            for option, value in {zmq.LINGER: 0, **options}.items():
                self._socket.setsockopt(option, value)
            self._fds = [int(self._socket.getsockopt(zmq.FD))]
        except BaseException:
            self._context.destroy(linger=0)
            raise
        guard(self)

    def _listen(self) -> None:
        for fd in self._fds:
            self._loop.add_reader(fd, self._pump)
        self.wake()

    def wake(self) -> None:
        """There may be something to send: pump soon."""
        if not self._due and not self._closed:
            self._due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._due = False
        if self._closed:
            return
        for _ in range(_AT_ONCE):
            sent, received = self._send(), self._receive()
            if received:
                self._changed()
            if self._closed:
                return
            # Reading EVENTS is what arms the descriptor again.
            if not sent and not received and not _events(self._socket) & zmq.POLLIN:
                return
        self.wake()

    def _send(self) -> bool:
        """Send something; False if there is nothing to send, or no way to."""
        raise NotImplementedError

    def _receive(self) -> bool:
        """Receive something; False if there is nothing."""
        raise NotImplementedError

    def _receive_parts(self) -> list[Any] | None:
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def close(self) -> None:
        """Close the socket, dropping what is on its way; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if not self._loop.is_closed():
            for fd in self._fds:
                self._loop.remove_reader(fd)
        self._context.destroy(linger=0)

    def abandon(self) -> None:
        """In a forked child: close what would keep our peers from seeing our end.

        libzmq's threads do not exist there, and pyzmq touches nothing of its parent's. So
        the descriptors are found by their names.
        """
        self._closed = True
        if self._endpoint:
            _close_sockets(os.path.basename(self._endpoint))


class Router(_Shell):
    """The writer's socket.

    Args:
        loop: the loop to pump in.
        flow: what is to be sent, and hears what comes in.
        path: where to listen; nobody may be there.
        backlog: connections that may wait to be accepted.
        changed: called when something was acknowledged.

    Raises:
        OSError: the path is taken, or no descriptor is left.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: Sender,
        path: str,
        backlog: int,
        changed: Callable[[], None],
    ) -> None:
        self._flow = flow
        self._path = path
        options = {zmq.ROUTER_MANDATORY: 1, zmq.SNDHWM: 0, zmq.MAXMSGSIZE: LARGEST_TO_WRITER}
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
            listener.setblocking(False)
            with address(path) as short:
                listener.bind(short)
                try:
                    listener.listen(backlog)
                    super().__init__(loop, zmq.ROUTER, options, changed)
                    self._endpoint = short
                    try:
                        self._socket.setsockopt(zmq.USE_FD, listener.fileno())
                        self._socket.bind(f"ipc://{short}")
                        listener.detach()
                    except BaseException:
                        super().close()
                        raise
                except BaseException:
                    os.unlink(path)
                    raise
        self._listen()

    def _send(self) -> bool:
        sent = False
        for count, (route, parts) in enumerate(self._flow.outgoing(), 1):
            try:
                self._socket.send(route, zmq.SNDMORE | zmq.NOBLOCK)
                for part in parts[:-1]:
                    self._socket.send(part, zmq.SNDMORE | zmq.NOBLOCK)
                self._socket.send(parts[-1], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                self._flow.lost(route)
            sent = True
            if count == _AT_ONCE:
                break
        return sent

    def _receive(self) -> bool:
        parts = self._receive_parts()
        if parts is None:
            return False
        route, *rest = (part.bytes for part in parts)
        found = self._flow.received(route, rest)
        if found is not None:
            logger.info("ignoring a peer at %s: %s", self._path, found.reason)
        return True

    def close(self) -> None:
        """Close the socket and remove its file; safe to call twice."""
        if not self._closed:
            super().close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


class Dealer(_Shell):
    """A reader's socket.

    Args:
        loop: the loop to pump in.
        flow: hears what comes in, and says what is to be sent.
        path: where the writer listens.
        changed: called when something came in.

    Raises:
        OSError: no descriptor is left.

    Attributes:
        ended: nothing more will come: `end` was called, and all that was there was received.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: Receiver,
        path: str,
        changed: Callable[[], None],
    ) -> None:
        self._flow = flow
        self._path = path
        self._ending = self.ended = False
        self._retry: asyncio.TimerHandle | None = None
        options = {zmq.IMMEDIATE: 1, zmq.RCVHWM: 0, zmq.MAXMSGSIZE: LARGEST_TO_READER}
        super().__init__(loop, zmq.DEALER, options, changed)
        # libzmq connects again by itself, by the same name, for as long as the socket lives.
        self._address = contextlib.ExitStack()
        try:
            self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            self._fds.append(int(self._monitor.getsockopt(zmq.FD)))
            self._endpoint = self._address.enter_context(address(path))
            self._socket.connect(f"ipc://{self._endpoint}")
        except BaseException:
            self._address.close()
            super().close()
            raise
        self._listen()

    def end(self) -> None:
        """The writer is gone: take what has arrived, and then expect nothing more."""
        self._ending = True
        self.wake()

    def _send(self) -> bool:
        self._hear_connections()
        frame = self._flow.outgoing()
        # EVENTS also has libzmq look for the connection whose handshake was just reported.
        if frame is None or not _events(self._socket) & zmq.POLLOUT:
            return False
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._flow.sent()
        return True

    def _hear_connections(self) -> None:
        while _events(self._monitor) & zmq.POLLIN:
            self._monitor.recv_multipart(zmq.NOBLOCK)
            self._flow.connected()

    def _receive(self) -> bool:
        parts = self._receive_parts()
        if parts is None:
            if self._ending and not self.ended:
                self.ended = True
                return True
            return False
        found = self._flow.received([part.buffer for part in parts])
        if found is not None:
            self._connect_again(found)
        return True

    def _connect_again(self, found: Breach) -> None:
        """Only a new connection gets the two ends out of this; not at once, or it may spin."""
        logger.warning("connecting to %s again: %s", self._path, found.reason)
        endpoint = f"ipc://{self._endpoint}"
        self._socket.disconnect(endpoint)
        self._retry = self._loop.call_later(_CONNECT_AGAIN, self._socket.connect, endpoint)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        if not self._closed:
            if self._retry is not None:
                self._retry.cancel()
            self._socket.disable_monitor()
            super().close()
            self._address.close()


def _events(sock: zmq.Socket[bytes]) -> int:
    return int(sock.getsockopt(zmq.EVENTS))


def _close_sockets(name: str) -> None:
    """Close all Unix sockets of this process that one end of is bound to a file of this name."""
    for entry in Path("/proc/self/fd").iterdir():
        fd = int(entry.name)
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            continue  # no socket, or the descriptor of the listing itself
        ours = sock.family == socket.AF_UNIX and name in {
            os.path.basename(str(end)) for end in _names(sock)
        }
        if ours:
            sock.close()
        else:
            sock.detach()


def _names(sock: socket.socket) -> list[Any]:
    names = [sock.getsockname()]
    with contextlib.suppress(OSError):
        names.append(sock.getpeername())
    return names
