"""Promise 2 under storms of cancels, on every call that waits."""

from __future__ import annotations

import pytest

from tests.stress.cancels import READS, WRITES, StormReport, storm_read, storm_write
from tests.stress.score import Score
from tests.stress.witness import DONE, consumed
from tests.stress.worker import Crew

CANCELLED_WITHIN = 5.0
CANCELS = 160
"""For each call on each loop; eight calls come to 2,560."""


@pytest.mark.parametrize("call", sorted({*WRITES, *READS}))
async def test_a_cancelled_call_did_nothing(call: str, crew: Crew, score: Score) -> None:
    source = score.begin(
        "2: a cancelled call did nothing", f"cancels of {call}", "for a struck call"
    )
    async with crew:
        ends = (call in WRITES) + (call in READS)
        goal = score.scaled(CANCELS // ends)
        writer = crew.start(storm_write, call, goal, f"{source.random()}")
        handle = await writer.expect("handle")
        reader = crew.start(storm_read, handle, call, goal, f"{source.random()}")
        await reader.expect("enough", moving=consumed(0))
        writer.send("stop")
        wrote: StormReport = await writer.expect("stormed", moving=DONE)
        read: StormReport = await reader.expect("stormed")
        for what in read.wrong:
            score.fail(what)
        score.took(max(wrote.longest, read.longest), CANCELLED_WITHIN)
        score.check(wrote.lanes == read.lanes, f"written {wrote.lanes}, read {read.lanes}")
        score.check(not wrote.rescues, f"writer: {wrote.rescues} rescues")
        score.check(not read.rescues, f"reader: {read.rescues} rescues")
        score.counts["cancels"] += wrote.cancels + read.cancels
        score.counts["messages"] += sum(wrote.lanes)
        score.check(score.counts["cancels"] >= goal * ends, f"{goal} cancels were to hit")
    score.verdict()
