"""Promises 1, 5, 6 and 7 under random SIGKILL of either end, in mid-traffic."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stress.judge import finish, judge
from tests.stress.nursery import Nursery
from tests.stress.readers import WAYS, attend, read
from tests.stress.score import Score
from tests.stress.steady import ReaderReport
from tests.stress.witness import BEGUN, CLOSED, CLOSING, DONE, consumed
from tests.stress.worker import Crew, Worker, linger
from tests.stress.writers import write, write_until_killed

KNOWN_WITHIN = 1.0  # ten times the promise
RING: dict[str, Any] = {"max_chunk_bytes": 16384, "max_chunks": 2}


@pytest.mark.parametrize("policy", ["raise", "evict"])
async def test_readers_are_killed(policy: str, crew: Crew, score: Score, nursery: Nursery) -> None:
    source = score.begin(
        "1 5 6: others get all, rank is free again",
        f"reader killed, on_reader_death={policy}",
        "until known",
    )
    words = nursery.witness.words
    async with crew:
        options = {**RING, "on_reader_death": policy}
        writer = crew.start(write, 3, options, f"{source.random()}")
        handle = await writer.expect("handle")

        def start(rank: int) -> Worker:
            return crew.start(read, handle, rank, tuple(WAYS), f"{source.random()}")

        readers = [start(rank) for rank in range(3)]
        for reader in readers:
            await reader.expect("joined")
        joining = {1: False, 2: False}
        while score.counts["reader kills"] < score.scaled(13):
            ranks = source.sample((1, 2), source.choice((1, 1, 2)))
            linger(source, 0.01)
            killed = {readers[rank].pid: readers[rank].kill() for rank in ranks}
            score.counts["reader kills"] += len(ranks)
            # Who was killed before it joined may die unnoticed.
            noticed = {readers[rank].pid for rank in ranks if not joining[rank]}
            while noticed:
                pid, when = await writer.expect("died")
                if pid in noticed:
                    noticed.remove(pid)
                    score.took(when - killed[pid], KNOWN_WITHIN)
            for rank in ranks:
                said = readers[rank].wire.order()
                score.check(said is None or said[0] == "joined", f"rank {rank} said {said}")
                await crew.dismiss(readers[rank])
            source.shuffle(ranks)
            had = {rank: words[consumed(rank)] for rank in ranks}
            for rank in ranks:
                readers[rank] = start(rank)
                joining[rank] = source.random() < 0.25
            for rank in ranks:
                if not joining[rank]:
                    first = await readers[rank].expect("joined")
                    score.check(first >= had[rank], f"{rank} starts at {first}, read {had[rank]}")
        for rank, still in joining.items():
            if still:
                await readers[rank].expect("joined")
        writer.send("stop", None)
        await finish(score, writer, readers, prompt=("readers",))
    score.verdict()


async def test_writers_are_killed(crew: Crew, score: Score, nursery: Nursery) -> None:
    source = score.begin(
        "5 7: all that was written, then WriterDied", "writer killed", "until WriterDied"
    )
    words = nursery.witness.words
    async with crew:
        readers = [crew.start(attend, rank, f"{source.random()}") for rank in range(2)]
        for lap in range(score.scaled(25)):
            nursery.witness.clear()
            writer = crew.start(write_until_killed, 2, RING, f"{source.random()}")
            handle = await writer.expect("handle")
            for reader in readers:
                reader.wire.send(handle)
            if source.random() < 0.75:
                nursery.witness.until(lambda words: words[BEGUN] or words[CLOSING])
            linger(source, 0.006)
            killed = writer.kill()
            await crew.dismiss(writer)
            score.counts["writer kills"] += 1
            begun, done = words[BEGUN], words[DONE]
            got = []
            for reader in readers:
                report: ReaderReport = await reader.expect("read")
                # Killed inside aclose it may be either.
                closed = words[CLOSED] or (words[CLOSING] and report.outcome == "QueueShutDown")
                judge(score, report, "QueueShutDown" if closed else "WriterDied")
                if not closed:
                    score.took(report.when - killed, KNOWN_WITHIN)
                # A writer killed between its store and its bell leaves that to the timer.
                excused = done < begun == report.following
                score.check(
                    report.rescues <= excused, f"rank {report.rank}: {report.rescues} rescues"
                )
                got.append(report.following)
            score.check(
                got[0] == got[1] and done <= got[0] <= begun,
                f"lap {lap}: the readers got {got}, the writer had written {done} to {begun}",
            )
            score.counts["messages"] += got[0]
        for reader in readers:
            reader.wire.send(None)
            await reader.gone()
    score.verdict()
