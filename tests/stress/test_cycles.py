"""Promises 2 and 7 over hundreds of queues: create, attach, close, cancelled and not."""

from __future__ import annotations

import asyncio

import pytest

from tests.stress.cycles import CycleReport, alone, guest, host
from tests.stress.score import Score
from tests.stress.test_cancels import CANCELS
from tests.stress.witness import consumed
from tests.stress.worker import Crew

CYCLE_WITHIN = 5.0
FLAT = 2 << 20
"""Bytes that three quarters of the cycles may add, however many they are. The interpreter's
own pools take up to 1 MiB over the first 3,000 and nothing after that."""


def judge(score: Score, report: CycleReport) -> None:
    """Count what was wrong, and what is held at the end and was not before."""
    for what in report.wrong:
        score.fail(what)
    before, after = report.descriptors
    score.check(before == after, f"{before} descriptors became {after}")
    grown = report.rss[1] - report.rss[0]
    score.check(grown < FLAT, f"{grown >> 10} KiB more in {report.laps} cycles")
    score.check(not report.mapped, f"{report.mapped} segments are still mapped")
    score.took(report.longest, CYCLE_WITHIN)
    score.counts["KiB grown"] = max(score.counts["KiB grown"], grown >> 10)


@pytest.mark.parametrize("call", ["", "wait_until_ready", "aclose"])
async def test_two_processes_meet_and_part(call: str, crew: Crew, score: Score) -> None:
    source = score.begin(
        "2: a cancelled call did nothing" if call else "7: nothing stays",
        f"cancels of {call}" if call else "create, attach, close in 2 processes",
        "for a cycle",
    )
    async with crew:
        laps = score.scaled(100)
        goal = score.scaled(CANCELS // 2) if call else 0
        ends = [crew.start(role, call, laps, goal, f"{source.random()}") for role in (host, guest)]
        hosting, visiting = ends
        while (handle := await hosting.expect("handle")) is not None:
            visiting.wire.send(handle)
            hosting.wire.send(await visiting.expect("read"))
        visiting.wire.send(None)
        for end in ends:
            report: CycleReport = await end.expect("cycled")
            judge(score, report)
            if call:
                score.counts["cancels"] += report.cancels
        score.counts["cycles"] += report.laps
    score.verdict()


async def test_one_process_creates_attaches_and_closes(crew: Crew, score: Score) -> None:
    score.begin("7: nothing stays", "create, attach, close in 1 process", "for a cycle")
    async with crew:
        worker = crew.start(alone, score.scaled(250))
        report: CycleReport = await worker.expect("cycled", moving=consumed(0))
        judge(score, report)
        score.counts["cycles"] += report.laps
        await asyncio.wait_for(worker.gone(), 30)
    score.verdict()
