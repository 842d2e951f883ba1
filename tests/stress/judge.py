"""Judging what the ends of steady traffic report."""

from __future__ import annotations

from collections.abc import Sequence

from tests.stress.score import Score
from tests.stress.steady import ReaderReport, WriterReport
from tests.stress.witness import DONE
from tests.stress.worker import Worker

ENDS = ("writer", "readers")


def judge(score: Score, report: ReaderReport, outcome: str) -> None:
    """Count what a reader found wrong, and an end that is not the expected one."""
    for what in report.shown:
        score.fail(what)
    score.failures += report.failures - len(report.shown)
    score.check(
        report.outcome == outcome,
        f"rank {report.rank} ended with {report.outcome} where {outcome} was expected",
    )


async def finish(
    score: Score, writer: Worker, readers: Sequence[Worker], *, prompt: Sequence[str] = ENDS
) -> list[ReaderReport]:
    """Judge what is left at both ends once the writer closes; gives the readers' reports.

    Args:
        readers: those that live.
        prompt: the ends that waited for nobody who was stopped or killed, so that a rescue
            of theirs is a failure.
    """
    wrote: WriterReport = await writer.expect("wrote", moving=DONE)
    rescues, parks, reports = {"writer": wrote.rescues, "readers": 0}, wrote.parks, []
    for reader in readers:
        report: ReaderReport = await reader.expect("read")
        judge(score, report, "QueueShutDown")
        score.check(
            report.following == wrote.messages,
            f"rank {report.rank} read up to {report.following} of {wrote.messages} messages",
        )
        reports.append(report)
        rescues["readers"] += report.rescues
        parks += report.parks
    for end in prompt:
        if rescues[end]:
            score.fail(f"{end}: {rescues[end]} rescues", rescues[end])
    before, after = wrote.descriptors
    score.check(before >= after, f"the writer held {before} descriptors, then {after}")
    score.counts["messages"] += wrote.messages
    score.counts["parks"] += parks
    return reports
