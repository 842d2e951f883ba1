"""Who has which rank and which slot: pure bookkeeping, on the writer's side.

::

    rank:   free ──join──► live ──goodbye──► free
                            │ └──evict─────► free, its process maybe still there
                            └──death──► dead ──evict, or the next join──► free

    slot:   free ──join──► in use ──goodbye, or exit of the process──► free

A slot outlives its rank: a reader that was evicted while it was stopped wakes up some
day and moves its cursor, so nobody else may have that slot before its process has
exited. A reader on another machine has a rank alone; so that all can be told apart by
slot, it counts as having one below 0, of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aioshm.ends.stats import PeerStats
from aioshm.errors import AdmissionRefused


class Bell(Protocol):
    """What wakes a reader."""

    def ring(self) -> None:
        """Wake it."""

    def close(self) -> None:
        """Let go of it."""


class NoBell:
    """The bell of a reader on another machine: messages themselves wake it."""

    def ring(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(eq=False)
class Member:
    """One admission: a rank, its slot and its bell, by one connection."""

    rank: int
    pid: int
    slot: int
    bell: Bell
    connection: Hashable


class Roster:
    """The ranks of one queue.

    Args:
        ranks: the ranks there are on this machine.
        slots: admissions that can hold a slot at once.
        remote: the ranks there are on others.

    Attributes:
        live, dead: who has a rank, and whose death is undecided; by rank.
        slots: who holds a slot, with or without a rank; by slot.
    """

    def __init__(self, ranks: Iterable[int], slots: int, remote: Iterable[int] = ()) -> None:
        self._local = tuple(ranks)
        self.ranks = (*self._local, *remote)
        self.live: dict[int, Member] = {}
        self.dead: dict[int, Member] = {}
        self.slots: dict[int, Member] = {}
        self._members: dict[Hashable, Member] = {}
        self._ever: set[int] = set()
        self._free = list(range(slots))

    def join(self, rank: int, pid: int, connection: Hashable, bell: Bell) -> Member:
        """Give a rank to a reader, and a fresh slot.

        Raises:
            AdmissionRefused: no such rank, rank taken, or no slot left.
        """
        if rank not in self._local:
            raise AdmissionRefused(f"there is no local rank {rank}; there are {list(self._local)}")
        if rank in self.live:
            raise AdmissionRefused(
                f"rank {rank} is taken by pid {self.live[rank].pid}; evict it or choose another"
            )
        if not self._free:
            raise AdmissionRefused(
                f"rank {rank}: all slots are held by processes that left without a goodbye and "
                "have not exited; end them or make a new queue"
            )
        member = Member(rank, pid, heapq.heappop(self._free), bell, connection)
        self.dead.pop(rank, None)
        self.live[rank] = self._members[connection] = self.slots[member.slot] = member
        self._ever.add(rank)
        return member

    def join_remote(self, rank: int, pid: int) -> Member:
        """Give a rank, which must be free or dead, to a reader on another machine."""
        member = Member(rank, pid, -1 - rank, NoBell(), None)
        self.dead.pop(rank, None)
        self.live[rank] = self.slots[member.slot] = member
        self._ever.add(rank)
        return member

    def part_remote(self, rank: int, *, died: bool) -> Member | None:
        """Take a reader on another machine off its rank; None if it had lost it before."""
        member = self.live.pop(rank, None)
        if member is not None and died:
            self.dead[rank] = member
        return member

    def part(self, connection: Hashable, *, died: bool) -> Member | None:
        """Take a reader off its rank; None if it had lost it before.

        After a death the rank counts among the dead until `resolve` or the next `join`.
        """
        member = self._members[connection]
        if self.live.get(member.rank) is not member:
            return None
        del self.live[member.rank]
        if died:
            self.dead[member.rank] = member
        return member

    def slot_is_free(self, connection: Hashable) -> Member | None:
        """Take the slot back: its reader said goodbye or exited; None if that is done."""
        member = self._members.pop(connection, None)
        if member is not None:
            del self.slots[member.slot]
            heapq.heappush(self._free, member.slot)
        return member

    def holds_slot(self, member: Member) -> bool:
        """Tell whether the slot is still this reader's; a dead one's may be somebody else's."""
        return self.slots.get(member.slot) is member

    def evict(self, rank: int) -> Member | None:
        """Free a rank, whether its reader lives or died; None if nobody has it."""
        return self.live.pop(rank, None) or self.dead.pop(rank, None)

    def peers(self, cursors: Mapping[int, int], position: int) -> tuple[PeerStats, ...]:
        """Describe the live readers, in the order of ranks, given the cursors by slot."""
        return tuple(
            PeerStats(m.rank, m.pid, cursors[m.slot], position - cursors[m.slot])
            for _, m in sorted(self.live.items())
            if m.slot in cursors
        )

    def missing(self) -> list[int]:
        """The ranks that nobody has taken since the beginning."""
        return [rank for rank in self.ranks if rank not in self._ever]

    def complete(self) -> bool:
        """Tell whether every rank was taken once and no death is undecided."""
        return not self.dead and len(self._ever) == len(self.ranks)
