"""What `stats()` gives: counts since the queue began, for tests, logs and dashboards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WaitStats:
    """How an end waited.

    Attributes:
        parks: times it armed its flag and slept.
        wakeups: times a sleep ended, for whatever reason.
        bells: doorbells heard.
        rescues: messages (or room) found by the safety timer although a bell was due; any is
            a bug, unless the other process was stopped in between.
    """

    parks: int
    wakeups: int
    bells: int
    rescues: int


@dataclass(frozen=True)
class PeerStats:
    """One reader, as the writer sees it.

    Attributes:
        rank, pid: who it is.
        position: its cursor, in bytes.
        behind: bytes it has not read yet.
    """

    rank: int
    pid: int
    position: int
    behind: int


@dataclass(frozen=True)
class OverflowStats:
    """The writer's counts of messages that did not fit the ring.

    Attributes:
        messages: how many were written.
        waiting: how many of them some reader has not consumed.
        nbytes: bytes of those.
        breaches: peers that broke the protocol, and were ignored from then on.
    """

    messages: int
    waiting: int
    nbytes: int
    breaches: int


@dataclass(frozen=True)
class RemoteStats:
    """The writer's counts of what goes to readers on other machines.

    Attributes:
        waiting: messages that some of them has not consumed.
        nbytes: bytes of those.
        breaches: peers that failed the handshake, or broke the protocol and were ignored.
    """

    waiting: int
    nbytes: int
    breaches: int


@dataclass(frozen=True)
class WriterStats:
    """The writer's counts.

    Attributes:
        messages: messages written.
        position: bytes written, padding and headers included; 0 without a ring.
        capacity: bytes of the ring.
        rung: doorbells rung.
        readers: the live readers, by rank.
        dead: ranks whose reader died and whose fate is undecided.
        waits: how the writer waited.
        overflow: messages that did not fit the ring.
        remote: messages to readers on other machines.
    """

    messages: int
    position: int
    capacity: int
    rung: int
    readers: tuple[PeerStats, ...]
    dead: tuple[int, ...]
    waits: WaitStats
    overflow: OverflowStats
    remote: RemoteStats = RemoteStats(0, 0, 0)


@dataclass(frozen=True)
class ReaderStats:
    """A reader's counts.

    Attributes:
        rank: its rank.
        messages: number of the next message, counted from the writer's first.
        position: its cursor, in bytes.
        rung: doorbells rung.
        waits: how the reader waited.
    """

    rank: int
    messages: int
    position: int
    rung: int
    waits: WaitStats
