"""The public names: MessageQueue and its two ends, Writer and Reader."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, Self

from aioshm.codec import Codec, PickleCodec
from aioshm.ends.end import End
from aioshm.ends.overflowing import OverflowingReader, OverflowingWriter
from aioshm.errors import WrongEnd
from aioshm.handle import Handle
from aioshm.waiting import Backoff

MIB = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,39}")
_LARGEST_RING = 1 << 46  # bytes; half of what x86-64 maps for a process


class MessageQueue(End):
    """One writer broadcasts Python objects to known readers; every reader gets every message.

    Two factories make the two ends: `create` a `Writer`, `create_from_handle` a `Reader`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if cls is MessageQueue:
            raise TypeError(
                "MessageQueue is made by MessageQueue.create(n_reader=...) in the writer and "
                "MessageQueue.create_from_handle(handle, rank) in each reader"
            )
        return super().__new__(cls)

    @staticmethod
    def create(
        n_reader: int = 1,
        *,
        local_reader_ranks: Sequence[int] | None = None,
        max_chunk_bytes: int = 2 * MIB,
        max_chunks: int = 8,
        max_overflow_bytes: int = 256 * MIB,
        codec: Codec = PickleCodec(),
        backoff: Backoff = Backoff(),
        on_reader_death: Literal["raise", "evict"] = "raise",
        evict_after: float | None = None,
        warn_after: float = 60.0,
        name: str | None = None,
    ) -> Writer:
        """Make a queue and its writing end; needs no running loop.

        Readers can knock from now on; they are let in while the writer's loop runs.

        Args:
            n_reader: how many readers there will be.
            local_reader_ranks: their ranks; None counts from 0.
            max_chunk_bytes: bytes of the largest message, encoded, that goes through the
                ring; larger ones go over a socket. Default 2 MiB.
            max_chunks: messages of that size that fit the ring, at least 2; smaller ones
                take only the room they need. Default 8. All the memory is taken at once.
            max_overflow_bytes: bytes of such larger messages that may be unread by some
                reader; beyond it the writer waits. Default 256 MiB.
            codec: how objects become bytes; it is pickled into the handle.
            backoff: how this end waits.
            on_reader_death: ``"raise"`` makes every enqueue raise `ReaderDied` until the
                rank is taken again or evicted; ``"evict"`` goes on without the reader.
            evict_after: seconds for which a reader may hold the writer back without moving;
                then it is evicted as by `Writer.evict`, with a warning, also in the middle
                of a lease. Only time in which the writer wants to write counts. None, the
                default, waits for ever.
            warn_after: seconds after which a waiting writer logs who holds it back, and
                again each time that long.
            name: for logs, errors and the socket's file name; None makes one of the pid.

        Raises:
            ValueError, TypeError: an argument that cannot be meant.
            PermissionError: the folder for the sockets is somebody else's.
            OSError: no memory or no descriptor is left.
        """
        ranks = _ranks(n_reader, local_reader_ranks)
        for what, value, least in (
            ("max_chunk_bytes", max_chunk_bytes, 1),
            ("max_chunks", max_chunks, 2),
            ("max_overflow_bytes", max_overflow_bytes, 0),
        ):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{what}={value!r} where a whole number was expected")
            if value < least:
                raise ValueError(f"{what}={value} where {least} or more was expected")
        if max_chunk_bytes * max_chunks > _LARGEST_RING:
            raise ValueError(
                f"max_chunk_bytes * max_chunks is {max_chunk_bytes * max_chunks} where at most "
                f"{_LARGEST_RING} bytes can be mapped"
            )
        if on_reader_death not in ("raise", "evict"):
            raise ValueError(
                f"on_reader_death={on_reader_death!r} where 'raise' or 'evict' was expected"
            )
        if evict_after is not None and not evict_after > 0:
            raise ValueError(
                f"evict_after={evict_after} where seconds above 0, or None, were expected"
            )
        if not warn_after > 0:
            raise ValueError(f"warn_after={warn_after} where seconds above 0 were expected")
        if name is None:
            name = "queue"
        elif not _NAME.fullmatch(name):
            raise ValueError(f"name={name!r} where 1 to 40 of A-Z a-z 0-9 _ - . were expected")
        return Writer(
            ranks,
            max_chunk_bytes=max_chunk_bytes,
            max_chunks=max_chunks,
            max_overflow_bytes=max_overflow_bytes,
            codec=codec,
            codec_pickle=pickle.dumps(codec),
            backoff=backoff,
            evict_dead=on_reader_death == "evict",
            evict_after=evict_after,
            warn_after=warn_after,
            name=name,
        )

    @staticmethod
    def create_from_handle(handle: Handle, rank: int, *, backoff: Backoff | None = None) -> Reader:
        """Make the reading end for one rank; needs no running loop and no writer yet.

        The first awaiting call knocks at the writer, whose loop must be running to let the
        reader in; what goes wrong there is raised from that call.

        Args:
            handle: what `Writer.export_handle` gave.
            rank: which of the queue's ranks this reader takes.
            backoff: how this end waits; None is `Backoff()`.

        Raises:
            ValueError: the handle does not name that rank.
            DecodeError: the writer's codec cannot be loaded here.
        """
        if not isinstance(handle, Handle):
            raise TypeError(
                f"{type(handle).__name__} where a Handle was expected; Handle.from_string(text) "
                "makes one of a string"
            )
        if rank not in handle.ranks or isinstance(rank, bool):
            raise ValueError(
                f"rank {rank!r} is not in queue {handle.name!r}, which has ranks "
                f"{list(handle.ranks)}"
            )
        return Reader(handle, rank, backoff or Backoff())


def _ranks(n_reader: int, ranks: Sequence[int] | None) -> list[int]:
    if not isinstance(n_reader, int) or isinstance(n_reader, bool):
        raise TypeError(f"n_reader={n_reader!r} where a whole number was expected")
    if not 1 <= n_reader <= 4096:
        raise ValueError(f"n_reader={n_reader} where 1 to 4096 were expected")
    if ranks is None:
        return list(range(n_reader))
    if (
        len(ranks) != n_reader
        or len(set(ranks)) != n_reader
        or not 0 <= min(ranks) <= max(ranks) < 1 << 31
    ):
        raise ValueError(
            f"local_reader_ranks={list(ranks)} where {n_reader} different ranks from 0 "
            "on were expected"
        )
    return list(ranks)


class Writer(OverflowingWriter, MessageQueue):
    """The writing end of a queue."""

    def export_handle(self) -> Handle:
        """Give the address of the queue, for the readers; picklable, and a secret."""
        return self._handle

    async def broadcast_object(self, obj: Any = None, timeout: float | None = None) -> Any:
        """Write an object and return it: the same call at both ends gives the same object.

        Raises and cancels as `enqueue`.
        """
        await self.enqueue(obj, timeout)
        return obj

    async def dequeue(self, timeout: float | None = None) -> NoReturn:
        """Belongs to the readers; raises WrongEnd."""
        self._wrong_end("dequeue")

    def dequeue_nowait(self) -> NoReturn:
        """Belongs to the readers; raises WrongEnd."""
        self._wrong_end("dequeue_nowait")

    def acquire_read(self, timeout: float | None = None) -> NoReturn:
        """Belongs to the readers; raises WrongEnd."""
        self._wrong_end("acquire_read")

    def __aiter__(self) -> NoReturn:
        self._wrong_end("async for")

    def _wrong_end(self, call: str) -> NoReturn:
        raise WrongEnd(f"{call} belongs to the readers, and this is the {self._who}")


class Reader(OverflowingReader, MessageQueue):
    """The reading end of a queue."""

    async def broadcast_object(self, obj: Any = None, timeout: float | None = None) -> Any:
        """Read the writer's object; whatever is passed here is ignored.

        Raises and cancels as `dequeue`.
        """
        return await self.dequeue(timeout)

    def export_handle(self) -> NoReturn:
        """Belongs to the writer; raises WrongEnd."""
        self._wrong_end("export_handle")

    async def enqueue(self, obj: Any, timeout: float | None = None) -> NoReturn:
        """Belongs to the writer; raises WrongEnd."""
        self._wrong_end("enqueue")

    def enqueue_nowait(self, obj: Any) -> NoReturn:
        """Belongs to the writer; raises WrongEnd."""
        self._wrong_end("enqueue_nowait")

    def acquire_write(self, nbytes: int, timeout: float | None = None) -> NoReturn:
        """Belongs to the writer; raises WrongEnd."""
        self._wrong_end("acquire_write")

    def evict(self, rank: int) -> NoReturn:
        """Belongs to the writer; raises WrongEnd."""
        self._wrong_end("evict")

    def _wrong_end(self, call: str) -> NoReturn:
        raise WrongEnd(f"{call} belongs to the writer, and this is the {self._who}")
