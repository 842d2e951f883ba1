"""A writer's patience with readers that hold it back: pure state, no clock.

A writer that waits for room says now and then who leaves it none, and evicts whom its
patience is over with.

Who waits for room tells at each look what time it is and which readers leave none, with
their cursors. A reader that moves starts anew; one that makes room is forgotten; the time
of one that does neither adds up, over as many calls of the writer as it takes.

Only time in which the writer looked counts. A writer that was itself stopped, or did not
want to write, learns nothing about its readers meanwhile: the machine may have slept, and
they with it. So no pause between two looks counts for more than half of the patience, and
who waits has to look more often than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from aioshm.ends.stats import PeerStats
from aioshm.waiting import Backoff


def slowest(peers: Iterable[PeerStats]) -> str:
    """Name the readers that are the furthest behind."""
    behind = sorted(peers, key=lambda peer: -peer.behind)
    return ", ".join(
        f"rank {peer.rank} (pid {peer.pid}) is {peer.behind} bytes behind" for peer in behind[:8]
    )


class Warnings:
    """When a wait is worth a warning: after so many seconds, and each time that long again."""

    def __init__(self, after: float) -> None:
        self._after = self._at = after

    def due(self, waited: float) -> bool:
        """Tell whether to warn now, `waited` seconds after the wait began."""
        if waited < self._after:
            self._at = self._after
        elif waited >= self._at:
            self._at = waited + self._after
            return True
        return False


class Patience:
    """How long each reader has held the writer back without moving.

    Args:
        seconds: how long it may.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._looked = 0.0
        self._waited: dict[int, tuple[int, float]] = {}

    def looks_often(self, backoff: Backoff) -> Backoff:
        """Cut the sleeps of a wait so short that no eviction is late by more than a quarter."""
        longest = min(backoff.max_sleep, self.seconds / 4)
        return replace(backoff, min_sleep=min(backoff.first_sleep, longest), max_sleep=longest)

    def lost_with(self, now: float, holding: Mapping[int, int]) -> list[int]:
        """Look at the readers that leave no room; returns those that had their time.

        Args:
            now: seconds on any clock that does not go back.
            holding: their cursors, by slot.
        """
        passed = min(now - self._looked, self.seconds / 2)
        self._looked = now
        waited = {}
        for slot, cursor in holding.items():
            before, so_far = self._waited.get(slot, (-1, 0.0))
            waited[slot] = cursor, so_far + passed if cursor == before else 0.0
        self._waited = waited
        return [slot for slot, (_, so_far) in waited.items() if so_far >= self.seconds]
