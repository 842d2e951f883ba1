"""A reader's half of the link to a writer on another machine: joins, listens, leaves.

Theory of operation
-------------------
libzmq connects, and connects again after every loss, by itself; the flow then says HELLO
and goes on where it was. So all that is decided here is when to stop waiting: whoever has
had no connection for ``peer_timeout`` seconds takes the writer for dead. The first one
counts the same way, because a writer listens from the moment that its handle exists.

A reader that has taken the last message of a closed queue says goodbye by itself, without
waiting for the program to close: that is what the writer's `aclose` waits for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import weakref
from typing import Protocol

from aioshm.errors import AdmissionRefused, AioshmError, Evicted, QueueShutDown
from aioshm.links.curve import Keys
from aioshm.links.flow import Receiver
from aioshm.links.flow_remote import CLOSED
from aioshm.links.flow_wire import REMOTE_PIECE
from aioshm.links.inbox import Inbox
from aioshm.links.network import parse
from aioshm.links.tcp import TcpDealer
from aioshm.links.weakly import weakly

_SAY_EVERY = 8
"""Messages of the flow that are acknowledged together."""

_SAY_WITHIN = 0.002
"""Seconds for which fewer of them wait for more."""

_MOVES_EVERY = 0.1
"""Seconds after which a writer hears that this reader moves within a message of the flow."""


class RemoteGuest(Protocol):
    """The reader, as its link sees it; called from callbacks of the loop."""

    def ready(self) -> None:
        """All readers have joined."""

    def came(self) -> None:
        """Something came in that a waiting task should look at."""

    def writer_gone(self) -> None:
        """The writer was out of reach for too long."""

    def refused(self, error: AioshmError) -> None:
        """We did not get in, or may not stay."""


class RemoteClient:
    """The reader's half.

    Args:
        guest: the reader, held weakly.
        where: the writer's address.
        token: the 32 bytes that get us in.
        keys: the queue's.
        rank: the rank we ask for.
        peer_timeout: seconds for which the writer may be out of reach.

    Attributes:
        inbox: what came in.
        gone: the writer was out of reach for too long.
        trouble: why, as far as that is known.
    """

    def __init__(
        self,
        guest: RemoteGuest,
        where: str,
        token: bytes,
        keys: Keys,
        rank: int,
        peer_timeout: float,
    ) -> None:
        self._guest = weakref.ref(guest)
        self._address = parse(where)
        self._where, self._keys, self._peer_timeout = where, keys, peer_timeout
        session = secrets.randbits(64)
        self._flow = Receiver(rank, token, session, None, os.getpid(), REMOTE_PIECE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dealer: TcpDealer | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._saying: asyncio.TimerHandle | None = None
        self._moving: asyncio.TimerHandle | None = None
        self._probe: socket.socket | None = None
        self._ready = self._farewell = False
        self._unsaid = 0
        self.inbox = Inbox(self._flow)
        self.gone = False
        self.trouble = ""

    # -- coming -------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to connect, in this loop."""
        self._loop = loop
        try:
            self._dealer = TcpDealer(
                loop, self._flow, self._where, self._keys, self._peer_timeout, weakly(self._heard)
            )
        except OSError as error:
            self._refused(
                AdmissionRefused(
                    f"cannot connect to {self._where}: {error.strerror}; raise this process's "
                    "limit (ulimit -n) and join again"
                )
            )
            return
        self._wait_for_writer()
        self._looking = loop.call_later(self._peer_timeout / 2, self._look_why)

    @property
    def joined(self) -> bool:
        """Tell whether the writer let us in."""
        return self._flow.state is not None

    @property
    def connected(self) -> bool:
        """Tell whether there is a connection now."""
        return self._dealer is not None and self._dealer.connected and not self.gone

    def _wait_for_writer(self) -> None:
        assert self._loop is not None
        if self._deadline is None and not self.gone:
            self._deadline = self._loop.call_later(self._peer_timeout, self._give_up)

    def _heard(self) -> None:
        assert self._dealer is not None
        # Who answers nothing but rubbish on every new connection is as good as gone.
        if self._dealer.connected and self._flow.sound:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        else:
            self._wait_for_writer()
        flow, guest = self._flow, self._guest()
        if guest is None:
            return
        if flow.refused is not None and not self._farewell:
            self._refused(self._meaning(flow.refused))
            return
        state = flow.state
        if self.inbox.begin() and state is not None and state.ready and not self._ready:
            self._ready = True
            guest.ready()
        self._leave_at_end()
        guest.came()

    def _meaning(self, reason: str) -> AioshmError:
        if not self.joined:
            if reason == CLOSED:
                return QueueShutDown("the writer closed the queue before it let this reader in")
            return AdmissionRefused(reason)
        return Evicted(
            f"{reason}; messages it had not read are lost, and it gets no further one: join again "
            "with a new Reader, which starts with the next message"
        )

    def _refused(self, error: AioshmError) -> None:
        guest = self._guest()
        self.close()
        if guest is not None:
            guest.refused(error)

    # -- reading ------------------------------------------------------------------------------

    def acknowledge(self) -> None:
        """The program took all of the messages at hand."""
        self.inbox.acknowledge(quietly=True)
        self._leave_at_end()
        self._unsaid += 1
        # To tell costs either end as much as a batch itself. So the writer hears of several at
        # once; but not late (a program that blocks its loop delays it), and where it is short
        # of room as soon as nothing is left to take.
        if self._unsaid >= _SAY_EVERY or (self.inbox.urgent and not self.inbox.has_more()):
            self._say()
        elif self._saying is None and self._loop is not None:
            self._saying = self._loop.call_later(_SAY_WITHIN, self._say_late)

    def watch(self) -> None:
        """A batch is at hand: tell the writer now and then that the program moves in it."""
        if self._moving is None and self._loop is not None:
            self._moving = self._loop.call_later(_MOVES_EVERY, self._say_moved, self.inbox.number)

    def _say_moved(self, before: int) -> None:
        self._moving = None
        if self.inbox.number != before and self._dealer is not None:
            self._flow.moved(self.inbox.number)
            self._dealer.wake()
        if self.inbox.left:
            self.watch()

    def _say(self) -> None:
        if self._unsaid and self._dealer is not None:
            self._unsaid = 0
            self._flow.acknowledge()
            self._dealer.wake()

    def _say_late(self) -> None:
        self._saying = None
        self._say()

    # -- the end ------------------------------------------------------------------------------

    def _leave_at_end(self) -> None:
        flow = self._flow
        if (
            flow.state is not None
            and flow.state.closed
            and flow.consumed is not None
            and max(flow.consumed, flow.floor) >= flow.state.next
        ):
            self.say_goodbye()

    def say_goodbye(self) -> None:
        """Leave the rank to others; `left` tells when the writer knows."""
        if self._farewell or self._dealer is None:
            return
        # Who asked to be let in may have been, and not know yet.
        if self.joined or (self.connected and self._flow.greeted):
            self._farewell = True
            self._flow.goodbye()
            self._dealer.wake()

    def left(self) -> bool | None:
        """True once the writer knows of the goodbye, or cannot be told; None before."""
        if self._farewell and self.connected and self._flow.refused is None:
            return None
        return True

    def _give_up(self) -> None:
        self._deadline = None
        if self._dealer is not None:
            # The loop may have been busy for so long that it has not seen the connection.
            self._dealer.look()
            if self._dealer.connected and self._flow.sound:
                return
        self.gone = True
        self.trouble = self._trouble()
        self.close()
        guest = self._guest()
        if guest is not None:
            guest.writer_gone()

    def _look_why(self) -> None:
        """Nobody answers: connect by ourselves, since libzmq does not say what went wrong."""
        self._looking = None
        if self.connected or self.joined:
            return
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._probe = socket.socket(family, socket.SOCK_STREAM)
        self._probe.setblocking(False)
        code = self._probe.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            assert self._dealer is not None
            self._dealer.trouble = os.strerror(code)

    def _trouble(self) -> str:
        if not self._flow.sound:
            return "it breaks the protocol: is it another version of aioshm?"
        if self._dealer is not None and self._dealer.trouble:
            return self._dealer.trouble
        if self._probe is not None:
            code = self._probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                return os.strerror(code)
        return "no answer"

    def close(self) -> None:
        """Let go of everything; who wants to say goodbye did so before. Safe to call twice."""
        for timer in (self._deadline, self._looking, self._saying, self._moving):
            if timer is not None:
                timer.cancel()
        if self._probe is not None:
            self._probe.close()
            self._probe = None
        if self._dealer is not None:
            self._dealer.connected = False
            self._dealer.close()
