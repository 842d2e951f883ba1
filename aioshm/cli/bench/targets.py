"""What aioshm means to reach, and whether it did, in this run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aioshm.cli.bench.contenders import (
    AIOSHM,
    EVENTFD,
    REMOTE,
    RINGS,
    ZMQ_IPC,
    ZMQ_TCP,
    ZMQ_XPUB,
    Contender,
)
from aioshm.cli.bench.plan import UNITS
from aioshm.cli.bench.results import Result, Results
from aioshm.cli.screen import Row


@dataclass(frozen=True)
class Target:
    """One line of the targets.

    Args:
        what: in words.
        case: what is measured.
        against: whom it is compared with; None for the figure as it stands.
        at_least: how many times better than that one, by ring.
        at_most: how many times that one's figure, or the figure itself, by ring.
        ours: who has to reach it: each ring, or what needs none.
    """

    what: str
    case: str
    against: Contender | None = None
    at_least: Sequence[float] = ()
    at_most: Sequence[float] = ()
    ours: Sequence[Contender] = AIOSHM


# For each: the Python ring, the ring in C.
_TARGETS = (
    Target("1 writer, 1 reader, messages/s", "throughput-1", ZMQ_IPC, at_least=(5, 15)),
    Target("round trip p50, both awake", "roundtrip-awake", ZMQ_IPC, at_least=(10, 20)),
    Target("1 writer, 8 readers, messages/s", "throughput-8", ZMQ_XPUB, at_least=(5, 12)),
    Target("round trip p50, from parked", "roundtrip-parked", EVENTFD, at_most=(1.5, 1.3)),
    Target("round trip p50, one every 2 ms", "roundtrip-2ms"),
    Target("the same, yield_for=2.5e-3", "roundtrip-2ms-awake"),
    Target("CPU of a reader at 100 messages/s", "cpu-100", at_most=(3, 3)),
    Target("CPU of a reader that is idle", "cpu-idle", at_most=(0.1, 0.1)),
    Target("1 MiB numpy arrays, messages/s", "numpy-1MiB", ZMQ_IPC, at_least=(3, 3)),
    Target("1 remote reader, messages/s", "remote-1", ZMQ_TCP, at_least=(5,), ours=(REMOTE,)),
)


@dataclass(frozen=True)
class Verdict:
    """One target for one ring: in words, and whether it is met (None: only reported)."""

    what: str
    ring: str
    measured: float
    measured_text: str
    target: str
    met: bool | None


def judge(results: Results) -> list[Verdict]:
    """Judge every target whose figures were measured."""
    verdicts = []
    for target in _TARGETS:
        for column, contender in enumerate(target.ours):
            ring = RINGS[column] if target.ours is AIOSHM else "none"
            ours = results.get(target.case, contender)
            theirs = results.get(target.case, target.against) if target.against else None
            if ours is not None and (theirs is not None or target.against is None):
                verdicts.append(_judge_one(target, column, ring, ours, theirs))
    return verdicts


def _judge_one(
    target: Target, column: int, ring: str, ours: Result, theirs: Result | None
) -> Verdict:
    unit = UNITS[ours.case.work]
    name = f" {theirs.contender.name}" if theirs else ""
    if target.at_least and theirs:
        least, times = target.at_least[column], ours.times_better(theirs) or 0.0
        text = f"{times:.2f}x better than{name}"
        return Verdict(target.what, ring, times, text, f">= {least:g}x", times >= least)
    if target.at_most and theirs:
        most, times = target.at_most[column], ours.median / theirs.median
        text = f"{times:.2f}x the time of{name}"
        return Verdict(target.what, ring, times, text, f"<= {most:g}x", times <= most)
    text, value = f"{ours.median:.3g} {unit}", ours.median
    if target.at_most:
        most = target.at_most[column]
        return Verdict(target.what, ring, value, text, f"<= {most:g} {unit}", value <= most)
    return Verdict(target.what, ring, value, text, "reported", None)


HEADINGS: Row = ("target", "ring", "measured", "wanted", "")


def rows(verdicts: Sequence[Verdict]) -> list[Row]:
    """The lines of the table of targets."""
    words = {True: "met", False: "MISSED", None: ""}
    return [
        (verdict.what, verdict.ring, verdict.measured_text, verdict.target, words[verdict.met])
        for verdict in verdicts
    ]


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [asdict(verdict) for verdict in verdicts]
