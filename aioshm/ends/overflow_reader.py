"""Messages that do not fit the ring, at a reader: a marker is consumed with its body only.

The reader connects when it meets the first marker. While the next message is a marker
whose body is not there yet, nothing in the ring can end the wait: it is the pump that
does, when the body is whole or the writer is gone. So parking asks for no bell then; an
eviction rings in any case.

Only the writer may be connected to: the kernel says who listens (SO_PEERCRED), and each
frame has to carry a tag that only the writer can make.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Sequence

from aioshm.codec import Buffer
from aioshm.errors import AdmissionRefused, AioshmError, Gap
from aioshm.links.connection import credentials
from aioshm.links.flow import Receiver
from aioshm.links.folder import address
from aioshm.links.ipc import IpcDealer
from aioshm.shm.layout import MARKER
from aioshm.shm.ring import RingReader


class OverflowReader:
    """A reader's overflow, and how it parks: a `Parking` over that of the ring.

    Args:
        ring: where the markers are.
        path: the writer's socket.
        number, key: what the admission brought.
        writer_pid: the writer as the kernel named it at the admission.
        changed: called when something came in.
    """

    def __init__(
        self,
        ring: RingReader,
        path: str,
        number: int,
        key: bytes,
        writer_pid: int,
        changed: Callable[[], None],
    ) -> None:
        self._ring, self._path = ring, path
        self._number, self._key = number, key
        self._writer_pid, self._changed = writer_pid, changed
        self._flow: Receiver | None = None
        self._dealer: IpcDealer | None = None
        self._gone = False
        self._awaited: int | None = None
        self._found: int | None = None

    # -- reading ---------------------------------------------------------------------------

    def look(self, who: str, marker: Buffer) -> Sequence[Buffer] | None:
        """Look for the body of the marker that is next in the ring; None if it is to come.

        Args:
            who: role, rank and position, for errors.
            marker: what the ring gave.

        Raises:
            Gap: the writer is gone and the body never came; the marker was consumed.
            AdmissionRefused: somebody else listens where the writer should.
        """
        sequence, nbytes = MARKER.unpack(marker)
        if self._flow is None:
            self._connect(who, sequence)
        assert self._flow is not None
        body = self._flow.body(sequence)
        if body is not None:
            self._awaited, self._found = None, sequence
            return body
        if not self._settled(sequence):
            self._awaited = sequence
            return None
        self._found = sequence
        number = self._ring.number
        self.consume()
        raise Gap(
            f"{who}: message {number} of {nbytes} bytes was still on its way when the writer "
            f"(pid {self._writer_pid}) ended, and is lost; the next call goes on after it",
            first=number,
            last=number,
        )

    def consume(self) -> bool:
        """Consume the marker that `look` was given, with its body; False if it was none.

        Raises:
            Evicted: the writer went on without this reader.
        """
        if self._found is None:
            return False
        self._ring.release()
        sequence, self._found, self._awaited = self._found, None, None
        if self._flow is not None and self._dealer is not None:
            self._flow.consume(sequence)
            self._dealer.wake()
        return True

    def _heard(self) -> None:
        if self._awaited is not None and self._settled(self._awaited):
            self._changed()

    def _settled(self, sequence: int) -> bool:
        """Tell whether it is decided what becomes of a body."""
        assert self._flow is not None
        if self._flow.body(sequence) is not None or self._flow.is_lost(sequence):
            return True
        return self._gone and (self._dealer is None or self._dealer.ended)

    # -- the socket ------------------------------------------------------------------------

    def _connect(self, who: str, sequence: int) -> None:
        if not self._gone:
            self._check_listener(who)
            session = secrets.randbits(64)
            flow = Receiver(self._number, self._key, session, sequence)
            loop = asyncio.get_running_loop()
            try:
                self._dealer = IpcDealer(loop, flow, self._path, self._heard)
            except OSError as error:
                raise AioshmError(
                    f"{who} cannot connect to {self._path}, where large messages come from: "
                    f"{error.strerror}; raise the limit and read again"
                ) from error
            self._flow = flow
        else:
            self._flow = Receiver(self._number, self._key, 0, sequence)

    def _check_listener(self, who: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                with address(self._path) as short:
                    probe.connect(short)
                pid, uid = credentials(probe)
            except OSError:
                return  # busy, or just gone: then the link tells
        if (pid, uid) != (self._writer_pid, os.geteuid()):
            raise AdmissionRefused(
                f"{who}: large messages should come from the writer (pid {self._writer_pid}), and "
                f"pid {pid} of user {uid} listens at {self._path}; end it and read again"
            )

    def writer_gone(self) -> None:
        """The writer's link ended; what has arrived still counts."""
        self._gone = True
        if self._dealer is not None:
            self._dealer.end()

    def close(self) -> None:
        """Close the socket; safe to call twice."""
        if self._dealer is not None:
            self._dealer.close()

    # -- waiting ---------------------------------------------------------------------------

    def arm(self) -> bool:
        """Ask for a bell, unless it is a body that is waited for; look again."""
        if self._awaited is not None:
            return self._settled(self._awaited)
        return self._ring.arm()

    def disarm(self) -> None:
        """Ask for no bell."""
        self._ring.disarm()

    def overdue(self) -> bool:
        """Tell whether a bell is due; none rings for a body."""
        return self._awaited is None and self._ring.overdue()
