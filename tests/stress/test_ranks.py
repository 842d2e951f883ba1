"""Promise 6: two processes take the same rank in turn, and lose it at random."""

from __future__ import annotations

from tests.stress.judge import finish, judge
from tests.stress.readers import WAYS, read, rejoin
from tests.stress.score import Score
from tests.stress.steady import ReaderReport
from tests.stress.witness import consumed
from tests.stress.worker import Crew
from tests.stress.writers import write

JOINS_WITHIN = 5.0


async def test_a_rank_is_taken_again_in_a_loop(crew: Crew, score: Score) -> None:
    source = score.begin(
        "6: starts with the next message", "rank taken again, 2 claimants", "until joined"
    )
    async with crew:
        options = {"max_chunk_bytes": 2048, "max_chunks": 2}
        writer = crew.start(write, 2, options, f"{source.random()}", None, True, True)
        handle = await writer.expect("handle")
        observer = crew.start(read, handle, 0, tuple(WAYS), f"{source.random()}")
        laps = score.scaled(250)
        claimants = [crew.start(rejoin, handle, 1, laps, f"{source.random()}") for _ in range(2)]
        held = []
        for claimant in claimants:
            report, refused, evicted, descriptors = await claimant.expect(
                "rejoined", moving=consumed(1)
            )
            assert isinstance(report, ReaderReport)
            judge(score, report, "")
            score.check(not report.rescues, f"{report.rescues} rescues in a claimant")
            score.took(report.longest, JOINS_WITHIN)
            score.counts["joins"] += laps
            score.counts["refusals"] += refused
            score.counts["evictions"] += evicted
            held.append(descriptors)
        score.check(held[0] == held[1], f"the claimants hold {held} descriptors at their ends")
        writer.send("stop", None)
        await finish(score, writer, [observer])
    score.verdict()
