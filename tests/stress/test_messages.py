"""Promises 1 and 4: four readers get millions of messages of all sizes, bit for bit."""

from __future__ import annotations

import pytest

from tests.stress.judge import finish
from tests.stress.readers import read
from tests.stress.score import Score
from tests.stress.worker import Crew
from tests.stress.writers import write

READ_WITHIN = 5.0


@pytest.mark.parametrize(
    ("largest", "chunks", "count"), [(1024, 2, 30_000), (16384, 4, 95_000)], ids=["tiny", "ring"]
)
async def test_four_readers_get_all(
    largest: int, chunks: int, count: int, crew: Crew, score: Score
) -> None:
    source = score.begin(
        "1 4: all, once, in order, bit for bit",
        f"4 readers, sizes 0 to {largest:,}, {chunks} chunks",
        "for one message",
    )
    options = {"max_chunk_bytes": largest, "max_chunks": chunks}
    async with crew:
        goal = score.scaled(count)
        writer = crew.start(write, 4, options, f"{source.random()}", goal, False)
        handle = await writer.expect("handle")
        ways = ("dequeue",), ("async for", "nowait"), ("lease",), ("dequeue", "lease", "nowait")
        readers = [
            crew.start(read, handle, rank, way, f"{source.random()}")
            for rank, way in enumerate(ways)
        ]
        for report in await finish(score, writer, readers):
            score.took(report.longest, READ_WITHIN)
        score.check(score.counts["messages"] == goal, f"{goal} messages were to be written")
    score.verdict()
