"""The flow protocol over ZeroMQ: a ROUTER at the writer, a DEALER at each reader.

The thin shell around flow.py, whatever the transport: ipc.py carries large messages to
readers on this machine, tcp.py everything to readers on others.

* ROUTER_MANDATORY makes a lost connection an error (EHOSTUNREACH) and not a silent drop;
  without a high-water mark nothing else keeps a send back, and credit bounds the pipe.
* IMMEDIATE keeps a DEALER from queueing for a connection that is not there, so what was
  meant for an old one never comes ahead of the HELLO on the new one.
* A reader says HELLO on every handshake that its socket's monitor reports.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from aioshm.links.flow import Receiver, Sender
from aioshm.links.flow_wire import LARGEST_TO_READER, LARGEST_TO_WRITER
from aioshm.links.pump import AT_ONCE, Shell, pollable

logger = logging.getLogger("aioshm")

CONNECT_AGAIN = 0.1
"""Seconds before a reader makes a new connection by itself."""

# Plain numbers: those of pyzmq's enumerations cost as much as a call does.
_POLLOUT, _NOBLOCK = int(zmq.POLLOUT), int(zmq.NOBLOCK)
_MORE = int(zmq.SNDMORE) | _NOBLOCK


class Router(Shell):
    """The writer's socket.

    Args:
        flow: what is to be sent, and hears what comes in.
        where: the address, for logs.
        options: of the transport.
        events: what the monitor reports.
        changed: called when something was acknowledged.
    """

    def __init__(
        self,
        flow: Sender,
        where: str,
        options: Mapping[int, int | bytes],
        events: int,
        changed: Callable[[], None],
    ) -> None:
        self._flow = flow
        self._where = where
        common: dict[int, int | bytes] = {
            zmq.ROUTER_MANDATORY: 1,
            zmq.SNDHWM: 0,
            zmq.MAXMSGSIZE: LARGEST_TO_WRITER,
        }
        super().__init__(zmq.ROUTER, {**common, **options}, events, changed)

    def _send(self) -> bool:
        sent = False
        for count, (route, parts) in enumerate(self._flow.outgoing(), 1):
            try:
                self._socket.send(route, _MORE)
                for part in parts[:-1]:
                    self._socket.send(part, _MORE)
                self._socket.send(parts[-1], _NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                self._flow.lost(route)
                self._lost()
            sent = True
            if count == AT_ONCE:
                break
        return sent

    def _lost(self) -> None:
        """A connection turned out to be gone."""

    def _receive(self) -> bool:
        parts = self._receive_parts()
        if parts is None:
            return False
        route, *rest = (part.bytes for part in parts)
        found = self._flow.received(route, rest)
        if found is not None:
            logger.info("ignoring a peer at %s: %s", self._where, found.reason)
        else:
            self._heard(parts)
        return True

    def _heard(self, parts: list[Any]) -> None:
        """The flow took a message of these parts."""


class Dealer(Shell):
    """A reader's socket.

    Args:
        flow: hears what comes in, and says what is to be sent.
        where: the address, for logs.
        options: of the transport.
        events: what the monitor reports, beside connections made.
        changed: called when something came in.

    Attributes:
        ended: nothing more will come: `end` was called, and all that was there was received.
    """

    def __init__(
        self,
        flow: Receiver,
        where: str,
        options: Mapping[int, int | bytes],
        events: int,
        changed: Callable[[], None],
    ) -> None:
        self._flow = flow
        self._where = where
        self._endpoint = ""
        self._ending = self.ended = False
        self._retry: asyncio.TimerHandle | None = None
        common: dict[int, int | bytes] = {
            zmq.IMMEDIATE: 1,
            zmq.RCVHWM: 0,
            zmq.MAXMSGSIZE: LARGEST_TO_READER,
        }
        events |= zmq.EVENT_HANDSHAKE_SUCCEEDED
        super().__init__(zmq.DEALER, {**common, **options}, events, changed)

    def _connect(self, endpoint: str) -> None:
        # libzmq connects again by itself, for as long as the socket lives.
        self._endpoint = endpoint
        self._socket.connect(endpoint)

    def end(self) -> None:
        """The writer is gone: take what has arrived, and then expect nothing more."""
        self._ending = True
        self.wake()

    def _send(self) -> bool:
        frame = self._flow.outgoing()
        # EVENTS also has libzmq look for the connection whose handshake was just reported.
        if frame is None or not pollable(self._socket) & _POLLOUT:
            return False
        try:
            self._socket.send(frame, _NOBLOCK)
        except zmq.Again:
            return False
        self._flow.sent()
        return True

    def _report(self, event: int, value: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._flow.connected()

    def _receive(self) -> bool:
        parts = self._receive_parts()
        if parts is None:
            return False
        found = self._flow.received([part.buffer for part in parts])
        if found is not None:
            logger.warning("connecting to %s again: %s", self._where, found.reason)
            self._connect_again()
        return True

    def _idle(self) -> None:
        if self._ending and not self.ended:
            self.ended = True
            self._changed()

    def _connect_again(self) -> None:
        """Only a new connection gets the two ends out of this; not at once, or it may spin."""
        assert self._loop is not None
        self._socket.disconnect(self._endpoint)
        if self._retry is None:
            self._retry = self._loop.call_later(CONNECT_AGAIN, self._connect_now)

    def _connect_now(self) -> None:
        self._retry = None
        self._socket.connect(self._endpoint)

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        if not self._closed:
            if self._retry is not None:
                self._retry.cancel()
            super().close()
