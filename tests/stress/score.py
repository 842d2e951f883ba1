"""What a case did and how it went; the table of all cases."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_SHOWN = 5

GOALS = {
    "reader kills": 1_000,
    "writer kills": 1_000,
    "stops": 200,
    "cancels": 100_000,
    "parks": 1_000_000,
    "messages": 10_000_000,
}
"""What the larger run must reach, by what is counted."""


@dataclass
class Score:
    """The score of one case on one loop.

    Attributes:
        seed: what `--stress-seed` takes to repeat it.
        name: the test's own name, which makes its random numbers different from others'.
        scale: the factor on counts.
        promise, case: what is promised, and how it is tried.
        counts: what was done, by what is counted.
        failures: how often the promise was broken; `shown` says how, for the first ones.
        worst: the longest time, in seconds, of what `worst_of` says.
        finished: the case came to its end.
    """

    seed: int
    name: str
    scale: float
    promise: str = ""
    case: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    shown: list[str] = field(default_factory=list)
    worst: float = 0.0
    worst_of: str = ""
    finished: bool = False

    def begin(self, promise: str, case: str, worst_of: str) -> random.Random:
        """Say what the case is about; gives its source of random numbers."""
        self.promise, self.case, self.worst_of = promise, case, worst_of
        return random.Random(f"{self.seed} {self.name}")

    def scaled(self, count: int) -> int:
        """The count at this scale, at least 1."""
        return max(1, round(count * self.scale))

    def fail(self, what: str, times: int = 1) -> None:
        """Count a broken promise."""
        self.failures += times
        if len(self.shown) < _SHOWN:
            self.shown.append(what)

    def check(self, fact: bool, what: str) -> None:
        """Count a broken promise unless it holds."""
        if not fact:
            self.fail(what)

    def took(self, seconds: float, limit: float | None = None) -> None:
        """Note a time; one beyond its limit is a broken promise."""
        self.worst = max(self.worst, seconds)
        if limit is not None and seconds > limit:
            self.fail(f"{self.worst_of} took {seconds:.3f} s where {limit} s are the limit")

    def verdict(self) -> None:
        """End the case; fail the test if any promise was broken."""
        self.finished = True
        assert not self.failures, f"{self.failures} failures, among them: " + "; ".join(self.shown)


def table(scores: Iterable[Score]) -> list[str]:
    """Draw the table, and the sums beneath it."""
    rows = [("promise", "case", "count", "failures", "worst time", "seed")]
    sums: Counter[str] = Counter()
    failures = 0
    for score in scores:
        counts = ", ".join(f"{count:,} {what}" for what, count in score.counts.items())
        failed = f"{score.failures}" if score.finished else f"{score.failures} and no end"
        worst = f"{score.worst * 1e3:,.1f} ms {score.worst_of}"
        loop = score.name.partition("[")[2].split("-")[0].rstrip("]")
        rows.append(
            (score.promise, f"{score.case}, {loop}", counts, failed, worst, str(score.seed))
        )
        sums.update(score.counts)
        failures += score.failures + (not score.finished)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    reached = [f"{sums[what]:,} of {goal:,} {what}" for what, goal in GOALS.items()]
    return [*lines, "", f"in all {failures} failures; of the large run: {', '.join(reached)}"]
