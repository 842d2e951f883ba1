"""Large messages to readers on this machine: the flow protocol over ``ipc://``.

The writer binds by itself and hands libzmq the listening descriptor (USE_FD): libzmq's
own bind would take a path over from whoever has it, and remove it when it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

import zmq

from aioshm.links.flow import Receiver, Sender
from aioshm.links.folder import address
from aioshm.links.pump import names
from aioshm.links.remote import Dealer, Router


class IpcRouter(Router):
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
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
            listener.setblocking(False)
            with address(path) as short:
                listener.bind(short)
                try:
                    listener.listen(backlog)
                    super().__init__(flow, path, {}, 0, changed)
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
        self.start(loop)

    def _is_ours(self, sock: socket.socket) -> bool:
        return _is_at(self._where, sock)

    def close(self) -> None:
        """Close the socket and remove its file; safe to call twice."""
        if not self._closed:
            super().close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._where)


class IpcDealer(Dealer):
    """A reader's socket.

    Args:
        loop: the loop to pump in.
        flow: hears what comes in, and says what is to be sent.
        path: where the writer listens.
        changed: called when something came in.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: Receiver,
        path: str,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(flow, path, {}, 0, changed)
        self._address = contextlib.ExitStack()
        try:
            # The name has to last: it is used again for each new connection.
            self._connect(f"ipc://{self._address.enter_context(address(path))}")
        except BaseException:
            self.close()
            raise
        self.start(loop)

    def _is_ours(self, sock: socket.socket) -> bool:
        return _is_at(self._where, sock)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        super().close()
        self._address.close()


def _is_at(path: str, sock: socket.socket) -> bool:
    """Tell whether one end of a socket is bound to a file of this name, by whichever way."""
    name = os.path.basename(path)
    return sock.family == socket.AF_UNIX and name in {
        os.path.basename(str(end)) for end in names(sock)
    }
