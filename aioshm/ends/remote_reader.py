"""The reading end on another machine: the same calls, over the link's inbox."""

from __future__ import annotations

import asyncio
import os
from threading import get_ident
from typing import Any

from aioshm.ends.lease import BodyWindow, Window
from aioshm.ends.reader import ReaderEnd
from aioshm.ends.stats import ReaderStats
from aioshm.errors import Gap, QueueShutDown, WriterDied
from aioshm.handle import Handle
from aioshm.links.curve import Keys
from aioshm.links.inbox import Missing
from aioshm.links.remote_client import RemoteClient
from aioshm.shm.layout import OBJECT
from aioshm.shm.ring import Record

_GOODBYE_WITHIN = 1.0
"""Seconds to wait for the writer's answer to a goodbye; by then it is on its way."""


class RemoteReaderEnd(ReaderEnd):
    """A reading end whose messages come over TCP."""

    def _knock(self, handle: Handle, rank: int) -> None:
        keys = Keys(handle.server_key, handle.client_public, handle.client_secret)
        token = bytes.fromhex(handle.token)
        self._remote = self._link = RemoteClient(
            self, handle.address, token, keys, rank, handle.peer_timeout
        )
        self._inbox = self._remote.inbox

    # -- joining ----------------------------------------------------------------------------

    @property
    def _who(self) -> str:
        at = f" at message {self._inbox.number}" if self._remote.joined else ""
        return f"reader rank {self._rank} of queue {self._handle.name!r} (pid {os.getpid()}){at}"

    @property
    def _writer(self) -> str:
        return f"the writer (pid {self._handle.pid} at {self._handle.address})"

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._remote.start(loop)

    def _missing(self) -> str:
        if self._remote.joined:
            return "the other readers to join"
        return f"{self._writer} to let it in: is its loop running, and the port open?"

    def ready(self) -> None:
        """All readers have joined; called by the link."""
        self._ready = True
        self._set_open(not self._closed)
        self._changed()

    def came(self) -> None:
        """Something came in; called by the link."""
        self._changed()

    # -- reading ----------------------------------------------------------------------------

    async def dequeue(self, timeout: float | None = None) -> Any:
        """Read the next message, as soon as there is one; as `ReaderEnd.dequeue`.

        Raises:
            Gap: messages this reader can no longer get; the next call goes on after them.
            WriterDied: the writer was out of reach for peer_timeout seconds, and all that had
                arrived was read.
        """
        short, inbox = self._short, self._inbox
        if short and get_ident() == self._thread and self._runs():
            self._short = short - 1
            if (inbox.left or self._is_there()) and inbox.kind == OBJECT:
                left = inbox.left
                frames = left.pop()
                inbox.number += 1
                if not left:
                    self._remote.acknowledge()
                decode = self._decode_frames  # called as a method it takes 30 ns more
                try:
                    return decode(frames)
                except Exception as error:
                    self._raise_decode(error)
        return self._decode(await self._wait(self._try_read, timeout))

    def _try_read(self) -> Record | None:
        if not self._is_there():
            return None
        record = self._inbox.kind, self._inbox.left[-1]
        self._consume()
        return record

    def _try_lease(self) -> tuple[int, Window] | None:
        if not self._is_there():
            return None
        return self._inbox.kind, BodyWindow(self._inbox.left[-1])

    def _consume(self) -> None:
        inbox = self._inbox
        if not self._closed and inbox.left:
            inbox.left.pop()
            inbox.number += 1
            if not inbox.left:
                self._remote.acknowledge()

    def _is_there(self) -> bool:
        if not self._check_ready():
            return False
        found = self._inbox.look()
        if found is True:
            self._remote.watch()
        elif found is False:
            found = self._inbox.end(gone=self._writer_gone)
            if found is True or (self._writer_gone and found is False):
                self._raise_end()
        if isinstance(found, Missing):
            self._raise_gap(found)
        return bool(found)

    def _raise_gap(self, missing: Missing) -> None:
        first, last = missing
        which = f"message {first} is" if first == last else f"messages {first} to {last} are"
        raise Gap(
            f"{self._who}: {which} lost: {self._writer} went on, or ended, while this reader was "
            "out of its reach; the next call goes on after the gap",
            first=first,
            last=last,
        )

    def _raise_end(self) -> None:
        number = self._inbox.number
        if self._inbox.end(gone=self._writer_gone):
            raise QueueShutDown(f"{self._who}: {self._writer} closed, and all it wrote was read")
        away = f"for {self._handle.peer_timeout:g} s ({self._remote.trouble})"
        if not self._remote.joined:
            raise WriterDied(
                f"{self._who}: nobody let it in {away} at {self._handle.address}: the writer (pid "
                f"{self._handle.pid}) died, closed, or cannot be reached; check the network, or "
                "get a fresh handle from a live writer",
                pid=self._handle.pid,
            )
        last = f"up to message {number - 1}, was read" if number else "was read: nothing"
        raise WriterDied(
            f"{self._who}: {self._writer} died, or was out of reach {away}; everything that had "
            f"arrived, {last}",
            pid=self._handle.pid,
        )

    # -- saying what is going on, leaving -----------------------------------------------------

    def stats(self) -> ReaderStats:
        """Give this end's counts."""
        return ReaderStats(self._rank, self._inbox.number, 0, 0, self._wait_stats())

    async def _drain(self, timeout: float) -> None:
        self._remote.say_goodbye()
        try:
            within = min(timeout, _GOODBYE_WITHIN)
            await self._gathering.wait(self._remote.left, within, self._late_to_leave)
        except TimeoutError:
            pass  # the writer's loop is busy: it hears the goodbye later, if it still can

    def _late_to_leave(self, waited: float, over: bool) -> None:
        if over:
            raise TimeoutError

    def _leave(self) -> None:
        self._remote.close()
