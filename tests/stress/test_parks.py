"""Promise 9's other half: no wake-up is ever lost, however park and store fall together."""

from __future__ import annotations

from tests.stress.parks import ParkReport, drain, pour, talk
from tests.stress.score import Score
from tests.stress.witness import consumed
from tests.stress.worker import Crew

WAKES_WITHIN = 5.0


def judge(score: Score, *reports: ParkReport) -> None:
    """Count parks; any rescue and any wrong message is a failure."""
    for report in reports:
        score.counts["parks"] += report.parks
        if report.rescues:
            score.fail(f"{report.rescues} rescues in {report.parks} parks", report.rescues)
        if report.wrong:
            score.fail(f"{report.wrong} messages out of order", report.wrong)
        score.took(report.longest, WAKES_WITHIN)


async def test_two_processes_answer_each_other(crew: Crew, score: Score) -> None:
    source = score.begin("1 9: no wake-up is lost", "request and response", "for an answer")
    async with crew:
        laps = score.scaled(6_000)
        ends = [crew.start(talk, rank, not rank, laps, f"{source.random()}") for rank in range(2)]
        handles = [await end.expect("handle") for end in ends]
        for end, handle in zip(ends, reversed(handles), strict=True):
            end.wire.send(handle)
        reports: list[ParkReport] = [await end.expect("parked", moving=consumed(0)) for end in ends]
        for end in ends:
            end.wire.send(None)
            await end.gone()
        judge(score, *reports)
        score.counts["messages"] += sum(report.messages for report in reports)
    score.verdict()


async def test_a_full_ring_and_two_readers(crew: Crew, score: Score) -> None:
    source = score.begin("4 9: no wake-up is lost", "ring full, 2 readers", "for room")
    async with crew:
        count = score.scaled(10_000)
        writer = crew.start(pour, 2, count, f"{source.random()}")
        handle = await writer.expect("handle")
        readers = [crew.start(drain, handle, rank, f"{source.random()}") for rank in range(2)]
        wrote: ParkReport = await writer.expect("parked", moving=consumed(0))
        read: list[ParkReport] = [await reader.expect("parked") for reader in readers]
        judge(score, wrote, *read)
        for report in read:
            score.check(report.messages == count, f"{report.messages} of {count} were read")
        score.counts["messages"] += count
    score.verdict()
