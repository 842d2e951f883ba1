"""What was measured, and what it comes to: medians, spread, ratios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from aioshm.cli.bench.contenders import AIOSHM, RINGS, Contender
from aioshm.cli.bench.plan import UNITS, Case, Work
from aioshm.cli.screen import Row

_FORMS: dict[Work, str] = {"flood": ",.0f", "round trip": ",.1f", "rate": ".2f"}

_SHORT: dict[Work, str] = {"flood": "/s", "round trip": "us", "rate": "%"}

Figures = dict[str, Any]


@dataclass
class Result:
    """One contender in one case: the figures of each round."""

    case: Case
    contender: Contender
    rounds: list[Figures] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        """The figure of each round."""
        return [figures["value"] for figures in self.rounds]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return self.median_of("value")

    def median_of(self, name: str) -> float:
        """The median of a figure beside the main one."""
        return float(median(figures[name] for figures in self.rounds))

    def histogram(self) -> Counter[int]:
        """How often each class of latency was seen, in all rounds."""
        seen: Counter[int] = Counter()
        for figures in self.rounds:
            seen.update({int(key): count for key, count in figures["histogram"].items()})
        return seen

    def times_better(self, other: Result) -> float | None:
        """How many times better than another one's the median is; None next to nothing."""
        more, less = self.median, other.median
        if self.case.work != "flood":
            more, less = less, more
        return more / less if less else None

    def texts(self) -> tuple[str, str, str]:
        """The median, the spread, and what was measured beside it, in words."""
        form = _FORMS[self.case.work]
        spread = ""
        if len(self.values) > 1:
            spread = f"{min(self.values):{form}} to {max(self.values):{form}}"
        beside = ""
        if "p99" in self.rounds[0]:
            beside = f"p90 {self.median_of('p90'):,.1f}, p99 {self.median_of('p99'):,.1f}"
            if self.contender in AIOSHM:
                beside += f", {self.median_of('parks'):.1f} parks each"
        elif "writer_percent" in self.rounds[0]:
            beside = f"writer {self.median_of('writer_percent'):.2f}"
            beside += f", {self.median_of('messages_per_s'):,.0f}/s"
        elif "mb_per_s" in self.rounds[0]:
            beside = f"{self.median_of('mb_per_s'):,.1f} MB/s"
        return f"{self.median:{form}} {_SHORT[self.case.work]}", spread, beside


class Results:
    """All that was measured, by case and contender.

    Attributes:
        failures: what went wrong, in words.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases
        self.failures: list[str] = []
        self._all: dict[tuple[str, str], Result] = {}

    def add(self, case: Case, contender: Contender, figures: Figures) -> None:
        """Note what one round gave; wrong or missing messages are a failure, and no figure."""
        where = f"{case.key}: {contender.name}"
        problems = []
        for number, reader in enumerate(figures["readers"]):
            if reader["wrong"] or reader["messages"] != figures["sent"]:
                counts = f"{reader['messages']} messages where {figures['sent']} were sent"
                why = "; ".join([*reader["problems"], counts])
                problems.append(f"{where}: reader {number} got {reader['wrong']} wrong: {why}")
        if problems:
            self.failures += problems
            return
        result = Result(case, contender)
        self._all.setdefault((case.key, contender.key), result).rounds.append(figures)

    def get(self, case: str, contender: Contender) -> Result | None:
        """What one contender did in one case, if it was measured."""
        return self._all.get((case, contender.key))

    def of(self, case: Case) -> list[Result]:
        """What was measured of a case, in the order of its contenders."""
        found = [self.get(case.key, contender) for contender in case.contenders]
        return [result for result in found if result is not None]

    def rows(self) -> tuple[Row, list[Row]]:
        """The table: its headings and its lines."""
        headings = ["", "who", "median", "spread", "beside it"]
        headings += [f"{ring} ring: times better" for ring in RINGS]
        rows: list[Row] = []
        for case in self.cases:
            for result in self.of(case):
                ratios = []
                for contender in AIOSHM:
                    ours = self.get(case.key, contender)
                    other = ours is not None and ours is not result
                    times = ours.times_better(result) if ours and other else None
                    ratios.append("" if times is None else f"{times:.2f}")
                rows.append(
                    [f"{case.group}, {case.title}", result.contender.name, *result.texts(), *ratios]
                )
        return headings, rows

    def as_json(self) -> list[dict[str, Any]]:
        """All of it, as JSON can carry it."""
        return [
            {
                "case": case.key,
                "group": case.group,
                "title": case.title,
                "unit": UNITS[case.work],
                "results": {result.contender.key: self._of_one(result) for result in self.of(case)},
            }
            for case in self.cases
        ]

    def _of_one(self, result: Result) -> dict[str, Any]:
        others = [other for other in self.of(result.case) if other is not result]
        values = result.values
        ours = result.contender in AIOSHM
        return {
            "median": result.median,
            "min": min(values),
            "max": max(values),
            "rounds": [
                {name: value for name, value in figures.items() if name != "readers"}
                for figures in result.rounds
            ],
            "times_better": {
                other.contender.key: result.times_better(other) for other in others if ours
            },
        }
