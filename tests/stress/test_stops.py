"""Promises 1 and 6 when a process is stopped and goes on later, evicted meanwhile or not."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.stress.judge import finish, judge
from tests.stress.nursery import Nursery
from tests.stress.readers import WAYS, read
from tests.stress.score import Score
from tests.stress.steady import ReaderReport
from tests.stress.witness import DONE, consumed
from tests.stress.worker import Crew, Worker, linger
from tests.stress.writers import write

MOVES_WITHIN = 5.0
RING: dict[str, Any] = {"max_chunk_bytes": 8192, "max_chunks": 2}
LAP = 2 * 8192 // 64
"""Messages that certainly overwrite the whole ring."""


@pytest.mark.parametrize("who", ["reader", "writer"])
async def test_stopped_and_continued(who: str, crew: Crew, score: Score, nursery: Nursery) -> None:
    source = score.begin("1: all, once, in order", f"{who} stopped, continued", "until it moved")
    witness = nursery.witness
    async with crew:
        writer = crew.start(write, 2, RING, f"{source.random()}")
        handle = await writer.expect("handle")
        readers = [
            crew.start(read, handle, rank, tuple(WAYS), f"{source.random()}") for rank in range(2)
        ]
        for reader in readers:
            await reader.expect("joined")
        for _ in range(score.scaled(5)):
            witness.until_moved(consumed(1), 1)
            linger(source, 0.005)
            victim, word = (readers[1], consumed(1)) if who == "reader" else (writer, DONE)
            victim.stop()
            score.counts["stops"] += 1
            linger(source, 0.02)
            went_on = time.monotonic()
            victim.signal(signal.SIGCONT)
            witness.until_moved(word, 3)
            score.took(time.monotonic() - went_on, MOVES_WITHIN)
        writer.send("stop", None)
        await finish(score, writer, readers, prompt=())
    score.verdict()


@pytest.mark.parametrize(
    ("how", "options", "count"),
    # The patience is longer than a busy machine may keep a reader from running.
    [("evict()", {}, 5), ("evict_after", {"evict_after": 1.0}, 1)],
    ids=["by hand", "by itself"],
)
async def test_stopped_and_evicted(
    how: str, options: dict[str, Any], count: int, crew: Crew, score: Score, nursery: Nursery
) -> None:
    source = score.begin(
        "1 6: Evicted, never a wrong byte; successor undisturbed",
        f"reader stopped, {how}, rank again, continued",
        "until Evicted",
    )
    witness = nursery.witness
    async with crew:
        writer = crew.start(write, 2, {**RING, **options}, f"{source.random()}")
        handle = await writer.expect("handle")

        def start(rank: int) -> Worker:
            return crew.start(read, handle, rank, tuple(WAYS), f"{source.random()}")

        readers = [start(0), start(1)]
        for reader in readers:
            await reader.expect("joined")
        for _ in range(score.scaled(count)):
            victim = readers[1]
            witness.until_moved(consumed(1), 1)
            linger(source, 0.005)
            victim.stop()
            score.counts["stops"] += 1
            if how == "evict()":
                writer.send("evict", 1)
            score.check(await writer.expect("evicted") == 1, "another rank was evicted")
            witness.until_moved(DONE, source.randrange(LAP))
            readers[1] = start(1)
            await readers[1].expect("joined")
            witness.until_moved(DONE, source.randrange(LAP))
            went_on = time.monotonic()
            victim.signal(signal.SIGCONT)
            report: ReaderReport = await victim.expect("read")
            score.took(report.when - went_on, MOVES_WITHIN)
            judge(score, report, "Evicted")
            await crew.dismiss(victim)
        writer.send("stop", None)
        await finish(score, writer, readers, prompt=())
    score.verdict()
