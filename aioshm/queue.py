"""The public names: MessageQueue and its two ends, Writer and Reader."""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, Self

from aioshm.codec import Codec, PickleCodec
from aioshm.ends.end import End
from aioshm.ends.overflowing import OverflowingReader, OverflowingWriter
from aioshm.ends.remote_reader import RemoteReaderEnd
from aioshm.ends.remote_writer import place_for
from aioshm.ends.remoting import RemotingWriter
from aioshm.errors import WrongEnd
from aioshm.handle import Handle
from aioshm.waiting import Backoff

MIB = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,39}")
_LARGEST_RING = 1 << 46  # bytes; half of what x86-64 maps for a process
_LONGEST_AWAY = 1e6  # seconds; libzmq counts milliseconds in 32 bits


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
        n_local_reader: int | None = None,
        *,
        local_reader_ranks: Sequence[int] | None = None,
        remote_reader_ranks: Sequence[int] | None = None,
        max_chunk_bytes: int = 2 * MIB,
        max_chunks: int = 8,
        max_overflow_bytes: int = 256 * MIB,
        connect_ip: str | None = None,
        bind_ip: str | None = None,
        port: int = 0,
        peer_timeout: float = 5.0,
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
            n_local_reader: how many of them run on this machine; None means all. The others
                connect over TCP. With 0 there is no shared memory.
            local_reader_ranks, remote_reader_ranks: their ranks; None counts from 0, first
                the local ones.
            max_chunk_bytes: bytes of the largest message, encoded, that goes through the
                ring; larger ones go over a socket. Default 2 MiB.
            max_chunks: messages of that size that fit the ring, at least 2; smaller ones
                take only the room they need. Default 8. All the memory is taken at once.
            max_overflow_bytes: bytes of such larger messages that may be unread by some
                reader; beyond it the writer waits. Default 256 MiB.
            connect_ip: the address, or a name of it, that remote readers connect to. None is
                `bind_ip`, or else this machine's own as its routing table says.
            bind_ip: the address of this machine where to listen for them, if it is not the
                one they connect to: behind NAT, in a container. Never a wildcard.
            port: where to listen; 0 takes a free one.
            peer_timeout: seconds for which a remote reader's connection, and at the reader
                the writer's, may be lost; then the other end counts as dead. Default 5 s.
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
            OSError: no memory or no descriptor is left; or an address is not this machine's,
                does not resolve, or its port is taken.
        """
        local, remote = _ranks(n_reader, n_local_reader, local_reader_ranks, remote_reader_ranks)
        for what, value, least in (
            ("max_chunk_bytes", max_chunk_bytes, 1),
            ("max_chunks", max_chunks, 2),
            ("max_overflow_bytes", max_overflow_bytes, 0),
            ("port", port, 0),
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
        for what, ip in (("connect_ip", connect_ip), ("bind_ip", bind_ip)):
            if not isinstance(ip, str | None):
                raise TypeError(f"{what}={ip!r} where an address or a name was expected")
        if not 0 <= port < 1 << 16:
            raise ValueError(f"port={port} where 0 to 65535 were expected")
        if not 0 < peer_timeout < _LONGEST_AWAY:
            raise ValueError(
                f"peer_timeout={peer_timeout} where seconds above 0, below {_LONGEST_AWAY}, were "
                "expected"
            )
        if not remote and (connect_ip is not None or bind_ip is not None or port):
            raise ValueError(
                "connect_ip, bind_ip and port are for remote readers, and there are none: "
                "n_local_reader says how many of n_reader are on this machine"
            )
        if name is None:
            name = "queue"
        elif not _NAME.fullmatch(name):
            raise ValueError(f"name={name!r} where 1 to 40 of A-Z a-z 0-9 _ - . were expected")
        options: dict[str, Any] = {
            "max_chunk_bytes": max_chunk_bytes,
            "max_chunks": max_chunks,
            "max_overflow_bytes": max_overflow_bytes,
            "codec": codec,
            "codec_pickle": pickle.dumps(codec),
            "backoff": backoff,
            "evict_dead": on_reader_death == "evict",
            "evict_after": evict_after,
            "warn_after": warn_after,
            "name": name,
        }
        if not remote:
            return Writer(local, **options)
        place = place_for(remote, connect_ip, bind_ip, port, peer_timeout)
        return _RemotingWriter(local, place=place, **options)

    @staticmethod
    def create_from_handle(handle: Handle, rank: int, *, backoff: Backoff | None = None) -> Reader:
        """Make the reading end for one rank; needs no running loop and no writer yet.

        The first awaiting call knocks at the writer, whose loop must be running to let the
        reader in; what goes wrong there is raised from that call. A remote rank connects over
        TCP, and may be on any machine; a local one is on the writer's.

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
        if rank in handle.remote_ranks:
            return _RemoteReader(handle, rank, backoff or Backoff())
        return Reader(handle, rank, backoff or Backoff())


def _ranks(
    n_reader: int,
    n_local_reader: int | None,
    local: Sequence[int] | None,
    remote: Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if n_local_reader is None:
        n_local_reader = n_reader
    for what, value in (("n_reader", n_reader), ("n_local_reader", n_local_reader)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{what}={value!r} where a whole number was expected")
    if not 1 <= n_reader <= 4096:
        raise ValueError(f"n_reader={n_reader} where 1 to 4096 were expected")
    if not 0 <= n_local_reader <= n_reader:
        raise ValueError(f"n_local_reader={n_local_reader} where 0 to {n_reader} were expected")
    n_remote = n_reader - n_local_reader
    here = _some_ranks("local_reader_ranks", local, n_local_reader, remote or ())
    there = _some_ranks("remote_reader_ranks", remote, n_remote, here)
    return here, there


def _some_ranks(
    what: str, ranks: Sequence[int] | None, count: int, taken: Sequence[int]
) -> tuple[int, ...]:
    if ranks is None:
        free = (rank for rank in itertools.count() if rank not in taken)
        return tuple(itertools.islice(free, count))
    wanted = tuple(ranks)
    if (
        len(wanted) != count
        or len({*wanted, *taken}) != count + len(taken)
        or not all(isinstance(rank, int) and 0 <= rank < 1 << 31 for rank in wanted)
    ):
        others = f" that are not in {list(taken)}" if taken else ""
        raise ValueError(
            f"{what}={list(wanted)} where {count} different ranks from 0 on{others} were expected"
        )
    return wanted


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


class _RemotingWriter(RemotingWriter, Writer):
    """A writing end some of whose readers are on other machines."""


class _RemoteReader(RemoteReaderEnd, Reader):
    """A reading end on another machine."""
