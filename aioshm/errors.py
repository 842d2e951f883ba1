"""Everything aioshm raises of its own, drawn once.

::

    AioshmError
    ├── QueueFull          no room now, from the _nowait calls    (also asyncio.QueueFull)
    ├── QueueEmpty         nothing to read now                    (also asyncio.QueueEmpty)
    ├── QueueShutDown      closed, and everything written was read
    │                                            (also asyncio.QueueShutDown on 3.13+)
    ├── PeerDied
    │   ├── WriterDied     raised after everything written was read
    │   └── ReaderDied     .rank, .pid
    ├── Evicted            the writer went on without this reader
    ├── Gap                .first, .last: messages this reader can no longer get
    ├── AdmissionRefused   wrong token, rank taken, other user, other version
    ├── MessageTooLarge    .size, .limit
    ├── EncodeError        the codec's own error is the __cause__
    ├── DecodeError        the codec's own error is the __cause__
    ├── SegmentError       the shared memory is not what it should be
    └── WrongEnd, ForkedQueue   a call for the other end; use in a forked child

A timeout is the builtin ``TimeoutError``; an argument that cannot be meant is a
``ValueError`` or ``TypeError``; a call from another event loop or thread is a
``RuntimeError``, as asyncio's own objects raise it.

Every class takes its whole message as the only positional argument, and what a
program may want to look at as keywords, so that each of them can be pickled.
"""

from __future__ import annotations

import asyncio
import sys

if sys.version_info >= (3, 13):
    _ShutDown = asyncio.QueueShutDown
else:

    class _ShutDown(Exception):
        pass


class AioshmError(Exception):
    """The base of every error of this package."""


class QueueFull(AioshmError, asyncio.QueueFull):
    """There is no room now; raised by the calls that do not wait."""


class QueueEmpty(AioshmError, asyncio.QueueEmpty):
    """There is nothing to read now; raised by the calls that do not wait."""


class QueueShutDown(AioshmError, _ShutDown):
    """The queue is closed, and everything that was written has been read."""


class PeerDied(AioshmError):
    """A process at the other end of the queue is gone without a goodbye.

    Attributes:
        pid: the process id of the dead peer, 0 where it is not known.
    """

    def __init__(self, message: str, *, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class WriterDied(PeerDied):
    """The writer is gone, and everything it had written was read."""


class ReaderDied(PeerDied):
    """A reader is gone, and the writer waits for a decision about its rank.

    Attributes:
        rank: the rank of the dead reader.
        pid: the process id of the dead reader, 0 where it is not known.
    """

    def __init__(self, message: str, *, rank: int = -1, pid: int = 0) -> None:
        super().__init__(message, pid=pid)
        self.rank = rank


class Evicted(AioshmError):
    """The writer went on without this reader; it gets no further message."""


class Gap(AioshmError):
    """Messages that this reader can no longer get; the next call goes on after them.

    Attributes:
        first, last: their numbers, counted from the writer's first message.
    """

    def __init__(self, message: str, *, first: int = -1, last: int = -1) -> None:
        super().__init__(message)
        self.first = first
        self.last = last


class AdmissionRefused(AioshmError):
    """The writer did not let this reader in; the message says why."""


class MessageTooLarge(AioshmError):
    """A message is larger than the queue can take.

    Attributes:
        size: bytes the message needs.
        limit: bytes there are.
    """

    def __init__(self, message: str, *, size: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class EncodeError(AioshmError):
    """The codec could not encode the object; nothing was written."""


class DecodeError(AioshmError):
    """The codec could not decode one message; just that message is consumed."""


class SegmentError(AioshmError):
    """The shared memory has a wrong magic, version, size, cursor or record."""


class WrongEnd(AioshmError):
    """A call that belongs to the other end of the queue."""


class ForkedQueue(AioshmError):
    """A queue was used in a forked child; it belongs to the process that made it."""
