"""The third act: a reader is killed while the writer waits for it, and is replaced.

It reads no more, so the ring fills and the writer's enqueue waits for room that only
that reader can make: then it is killed. The waiting enqueue raises `ReaderDied` and has
written nothing, so no other reader misses anything, and the new one starts with the very
message that could not be written.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aioshm import Handle, MessageQueue, ReaderDied
from aioshm.cli.children import Child, Event
from aioshm.cli.demo.message import Verifier, library_lines, messages
from aioshm.cli.demo.stage import Stage, all_done
from aioshm.cli.line import Line

ACT = "crash"
VICTIM = 1
"""The rank of the reader that is killed."""

_BYTES, _CHUNKS = 64 * 1024, 8
_LINES = 10_000
_PROGRESS = 0.05
_LOOKS = 200

# -- in the child processes -----------------------------------------------------------------


async def write(line: Line, readers: int) -> None:
    """Be the writer: flood until told to end; at a death wait until told to go on."""
    async with MessageQueue.create(
        n_reader=readers, max_chunk_bytes=_BYTES, max_chunks=_CHUNKS, on_reader_death="raise"
    ) as queue:
        line.tell("here", address=queue.export_handle().to_string())
        stream = messages(library_lines(_LINES))
        message = next(stream)

        async def tell_progress() -> None:
            while True:
                await asyncio.sleep(_PROGRESS)
                line.tell("progress", written=message[0])

        await queue.wait_until_ready()
        telling = asyncio.create_task(tell_progress())
        while line.heard() != "end":
            try:
                await queue.enqueue(message)
            except ReaderDied as death:
                at = time.monotonic_ns()
                line.tell("died", rank=death.rank, pid=death.pid, at=at, next=message[0])
                await line.hear()
            else:
                message = next(stream)
        telling.cancel()
        line.tell("done", messages=message[0])


async def read(line: Line, address: str, rank: int, late: bool = False) -> None:
    """Be a reader: verify all there is, until the writer closes; stop when told to."""
    verifier = Verifier(None if late else 0)
    async with MessageQueue.create_from_handle(Handle.from_string(address), rank) as queue:
        await queue.wait_until_ready()
        line.tell("joined")
        async for message in queue:
            verifier.see(message)
            if line.heard() == "stop":
                await line.hear()
    line.tell("done", **verifier.report())


# -- in the parent ----------------------------------------------------------------------------


async def conduct(stage: Stage) -> None:
    """Kill a reader, replace it, and see what everybody got."""
    report, screen = stage.report, stage.screen
    stage.act(ACT, f"kill -9 reader {VICTIM} while the writer waits for it, and replace it")
    phase = report.seconds / 4
    values = report.values.setdefault(ACT, {})
    async with stage.children() as children:
        writer, readers = stage.start_queue(children)
        writer.be(ACT, "write", readers=len(readers))
        address: Any = (await writer.expect("here"))["address"]
        for rank, reader in enumerate(readers):
            reader.be(ACT, "read", address=address, rank=rank)
        for reader in readers:
            await reader.expect("joined")
        await stage.pass_time(children, phase, "flood", (0.0, 0.4))

        victim = readers[VICTIM]
        victim.do("stop")
        await _until_waiting(stage, writer)
        killed_at = victim.kill()
        died = await writer.expect("died")
        _note_death(stage, values, died, killed_at, victim.pid)

        start = time.monotonic()
        heir = children.start(f"new reader {VICTIM}")
        heir.be(ACT, "read", address=address, rank=VICTIM, late=True)
        await heir.expect("joined")
        values["rejoined_ms"] = rejoined = (time.monotonic() - start) * 1e3
        writer.do("go on")
        text = f"a new process has rank {VICTIM}, {rejoined:.0f} ms from its start"
        report.row(ACT, "new reader", text)
        screen.say(text)
        await stage.pass_time(children, phase, "flood, with the new reader", (0.6, 1.0))

        writer.do("end")
        sent = (await writer.expect("done"))["messages"]
        survivors = [reader for reader in readers if reader is not victim]
        got = await all_done(survivors)
        (new,) = await all_done([heir])
    values["messages"] = sent
    for reader, said in zip(survivors, got, strict=True):
        report.check_reader(ACT, reader.name, said, sent)
    _note_heir(stage, new, died["next"], sent)


async def _until_waiting(stage: Stage, writer: Child) -> None:
    """Look at the writer until it writes no more, as it must when the ring is full."""
    stage.progress(0.5, f"reader {VICTIM} reads no more")
    waits, before = False, -1
    for _ in range(_LOOKS):
        now = (await writer.expect("progress"))["written"]
        waits, before = now == before, now
        if waits:
            break
    text = f"it wrote {before} messages and goes on"
    stage.report.check(ACT, "the writer waits for the slowest reader", waits, text)


def _note_death(
    stage: Stage, values: dict[str, Any], died: Event, killed_at: int, pid: int
) -> None:
    report = stage.report
    after = (died["at"] - killed_at) / 1e6
    values.update(rank=died["rank"], pid=died["pid"], reader_died_ms=after, next=died["next"])
    text = f"ReaderDied rank {died['rank']} after {after:.1f} ms"
    found = f"rank {died['rank']}, pid {died['pid']} where {VICTIM}, {pid} was killed"
    right = (died["rank"], died["pid"]) == (VICTIM, pid)
    report.check(ACT, "ReaderDied names the reader that was killed", right, found)
    report.row(ACT, "kill -9 a reader", text)
    stage.screen.say(text)


def _note_heir(stage: Stage, said: Event, due: int, sent: int) -> None:
    report = stage.report
    found = f"it began with {said['first']} where {due} was the next"
    report.check(ACT, "the new reader starts with the next message", said["first"] == due, found)
    report.check_reader(ACT, "the new reader", said, sent - due)
    if not [check for check in report.failed if check.act == ACT]:
        text = f"{sent:,} messages to the others, to the new one from {due:,} on"
        report.row(ACT, "delivered", text)
        stage.screen.say(text)
