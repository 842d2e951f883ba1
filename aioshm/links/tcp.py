"""Everything to readers on other machines: the flow protocol over ``tcp://``, with CURVE.

*Who is gone.* A connection ends at once where the kernel says so, and within four tenths of
``peer_timeout`` where a cable was cut or a process was stopped: ZMTP's heartbeats go out
each tenth of it and wait for three tenths. They run in libzmq's own thread, so a loop
that is busy for seconds is not taken for dead. A reader's monitor names the end of its
connection. A writer's monitor says that some connection ended; to learn which, it probes
them all (flow_remote.py), and again after growing pauses: the event is reported a moment
before sending fails.

*Who connects again.* libzmq, after a loss; but not after bytes that are none of ZMTP's or a
frame that is too long: then it says nothing more, and so the reader connects by itself.

*Who gets in.* curve.py. Whoever fails there never reaches the flow, and is counted.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import zmq

from aioshm.links import network
from aioshm.links.curve import Doorkeeper, Keys, server_options
from aioshm.links.flow import Receiver
from aioshm.links.flow_remote import Joined, RemoteSender
from aioshm.links.pump import names, need_descriptors
from aioshm.links.remote import CONNECT_AGAIN, Dealer, Router

_DOORKEEPERS_DESCRIPTORS = 24
_PROBE_AGAIN = 0.05
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


def _options(address: str, peer_timeout: float) -> dict[int, int | bytes]:
    beat = max(10, round(peer_timeout * 100))
    return {
        zmq.IPV6: int(":" in address),
        zmq.HEARTBEAT_IVL: beat,
        zmq.HEARTBEAT_TIMEOUT: 3 * beat,
        # A cable may be cut in the middle of a handshake too.
        zmq.HANDSHAKE_IVL: max(500, 3 * beat),
    }


class TcpRouter(Router):
    """The writer's socket; it listens from the start, and admits once it has a loop.

    Args:
        flow: what is to be sent, and hears what comes in.
        address, port: where to listen; port 0 takes a free one.
        keys: the readers'.
        secret: the writer's own.
        peer_timeout: seconds for which a reader may be away.
        changed: called when something came in, or a connection was lost.

    Raises:
        OSError: the port is taken, or no descriptor is left.

    Attributes:
        port: where it listens.
        strangers: connections that failed the handshake.
        addresses: where readers connected from, by rank.
    """

    _flow: RemoteSender
    _doorkeeper: Doorkeeper | None = None

    def __init__(
        self,
        flow: RemoteSender,
        address: str,
        port: int,
        keys: Keys,
        secret: bytes,
        peer_timeout: float,
        changed: Callable[[], None],
    ) -> None:
        self.strangers = 0
        self.addresses: dict[int, str] = {}
        self._peer_timeout = peer_timeout
        self._probing: asyncio.TimerHandle | None = None
        need_descriptors(_DOORKEEPERS_DESCRIPTORS)
        options = {**_options(address, peer_timeout), **server_options(secret)}
        super().__init__(flow, "", options, zmq.EVENT_DISCONNECTED | _FAILED, changed)
        try:
            self._doorkeeper = Doorkeeper(self._context, keys.public)
            try:
                self._socket.bind(network.endpoint(address, port or "*"))
            except zmq.ZMQError as error:
                code = error.errno or errno.EINVAL
                where = network.endpoint(address, port)
                raise OSError(code, f"cannot listen at {where}: {os.strerror(code)}") from error
            bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
            self.port = int(bytes(bound).rstrip(b"\0").rpartition(b":")[2])
        except BaseException:
            self.close()
            raise
        self._where = network.endpoint(address, self.port)

    def _report(self, event: int, value: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            if self._probing is not None:
                self._probing.cancel()
            self._probe(_PROBE_AGAIN)
        else:
            self.strangers += 1

    def _probe(self, again: float) -> None:
        assert self._loop is not None
        self._flow.probe()
        self.wake()
        self._probing = None
        if again < self._peer_timeout:
            self._probing = self._loop.call_later(again, self._probe, 2 * again)

    def _idle(self) -> None:
        if self._flow.gathering:
            self.wake()

    def _lost(self) -> None:
        self._changed()

    def _heard(self, parts: list[Any]) -> None:
        for event in self._flow.events:
            if isinstance(event, Joined) and event.rank not in self.addresses:
                self.addresses[event.rank] = parts[-1].get("Peer-Address")

    def _is_ours(self, sock: socket.socket) -> bool:
        return _has(sock, network.parse(self._where), 0)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        if self._probing is not None:
            self._probing.cancel()
        super().close()

    def _after_socket(self) -> None:
        if self._doorkeeper is not None:
            self._doorkeeper.close()

    def abandon(self) -> None:
        """In a forked child: close the sockets of this link."""
        super().abandon()
        if self._doorkeeper is not None:
            self._doorkeeper.abandon()


class TcpDealer(Dealer):
    """A reader's socket.

    Args:
        loop: the loop to pump in.
        flow: hears what comes in, and says what is to be sent.
        where: where the writer listens.
        keys: what the handle has.
        peer_timeout: seconds for which the writer may be away.
        changed: called when something came in, or the connection came or went.

    Raises:
        OSError: no descriptor is left.

    Attributes:
        connected: there is a connection, and the writer's CURVE key was right.
        trouble: why there is none, as far as libzmq tells.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: Receiver,
        where: str,
        keys: Keys,
        peer_timeout: float,
        changed: Callable[[], None],
    ) -> None:
        self.connected = False
        self.trouble = ""
        address, _ = network.parse(where)
        options = {
            **_options(address, peer_timeout),
            **keys.client_options(),
            # The first answers may have been lost with the cable: do not wait for the kernel's
            # own idea of when to ask again.
            zmq.CONNECT_TIMEOUT: max(200, round(peer_timeout * 200)),
        }
        self._stuck: asyncio.TimerHandle | None = None
        events = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED | _FAILED
        super().__init__(flow, where, options, events, changed)
        try:
            self._connect(where)
        except BaseException:
            self.close()
            raise
        self.start(loop)

    def _report(self, event: int, value: int) -> None:
        super()._report(event, value)
        assert self._loop is not None
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        if event == zmq.EVENT_CONNECT_RETRIED:
            return
        self.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if not self.connected and self._retry is None:
            self._stuck = self._loop.call_later(CONNECT_AGAIN, self._connect_again)
        if self.connected:
            self.trouble = ""
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.trouble = "it does not let the handle's key in"
        elif event != zmq.EVENT_DISCONNECTED:
            self.trouble = "it is not this queue's writer: the handshake failed"
        self._changed()

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        if self._stuck is not None:
            self._stuck.cancel()
        super().close()

    def _is_ours(self, sock: socket.socket) -> bool:
        return _has(sock, network.parse(self._where), 1)


def _has(sock: socket.socket, where: tuple[str, int], end: int) -> bool:
    """Tell whether the own end (0) or the other one (1) of a TCP socket has this address."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return False
    found = names(sock)
    return len(found) > end and found[end][:2] == where
