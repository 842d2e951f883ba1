"""What the ends of steady traffic share: patience, pauses, and the reports at their end."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from aioshm import Backoff

PATIENT = Backoff(min_sleep=20.0, max_sleep=20.0)
"""The safety timer would make good for a lost bell after 100 ms, and nobody would notice;
so here it looks after 20 s, which is over every limit."""


@dataclass
class WriterReport:
    """What a writer did, and what it held at its first message and at its last."""

    messages: int
    rescues: int
    parks: int
    descriptors: tuple[int, int]


@dataclass
class ReaderReport:
    """What a reader saw.

    Attributes:
        rank: its rank.
        first, following: number of its first message, and of the one it waits for.
        failures: messages that were wrong; `shown` says how, for the first ones.
        outcome: name of the error that ended it.
        when: when it came, by time.monotonic().
        longest: seconds of its longest wait for one message.
        rescues, parks: its stats.
    """

    rank: int
    first: int = 0
    following: int = 0
    failures: int = 0
    shown: list[str] = field(default_factory=list)
    outcome: str = ""
    when: float = 0.0
    longest: float = 0.0
    rescues: int = 0
    parks: int = 0

    def fail(self, what: str) -> None:
        """Count a wrong message."""
        self.failures += 1
        if len(self.shown) < 3:
            self.shown.append(f"rank {self.rank}: {what}")


def pause(source: random.Random, most: float = 200e-6) -> None:
    """Spend up to `most` seconds, finer than any loop can sleep."""
    until = time.perf_counter() + source.random() * most
    while time.perf_counter() < until:
        pass
