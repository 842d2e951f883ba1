"""The fourth act: the writer is killed in mid-flood; what it wrote is read all the same.

The writer keeps telling its parent up to which message enqueue has returned, so what it
had surely written is known after its death. The memory of the queue belongs to whoever
has it mapped, so the readers go on reading, and hear of the death after the last message.
"""

from __future__ import annotations

import os
import time
from typing import Any

from aioshm import Handle, MessageQueue, WriterDied
from aioshm.cli.children import Event
from aioshm.cli.demo.message import Verifier, library_lines, messages
from aioshm.cli.demo.stage import Stage, all_done
from aioshm.cli.figures import listed
from aioshm.cli.line import Line

ACT = "writer gone"
_TELL_EVERY = 32
_BYTES, _CHUNKS = 64 * 1024, 8
_LINES = 10_000  # what a process has in memory is what the kernel takes its time to free

# -- in the child processes -----------------------------------------------------------------


async def write(line: Line, readers: int) -> None:
    """Be the writer: flood for ever."""
    async with MessageQueue.create(
        n_reader=readers, max_chunk_bytes=_BYTES, max_chunks=_CHUNKS
    ) as queue:
        line.tell("here", address=queue.export_handle().to_string())
        lines = messages(library_lines(_LINES))
        await queue.wait_until_ready()
        line.tell("ready")
        for message in lines:
            await queue.enqueue(message)
            if not message[0] % _TELL_EVERY:
                line.tell("progress", written=message[0] + 1)


async def read(line: Line, address: str, rank: int) -> None:
    """Be a reader: verify all there is, until the writer's end."""
    verifier = Verifier()
    async with MessageQueue.create_from_handle(Handle.from_string(address), rank) as queue:
        await queue.wait_until_ready()
        end = "QueueShutDown"
        try:
            async for message in queue:
                verifier.see(message)
        except WriterDied:
            end = "WriterDied"
        line.tell("done", end=end, at=time.monotonic_ns(), **verifier.report())


# -- in the parent ----------------------------------------------------------------------------


async def conduct(stage: Stage) -> None:
    """Kill the writer, and see what the readers got."""
    report = stage.report
    stage.act(ACT, "kill -9 the writer in mid-flood")
    async with stage.children() as children:
        writer, readers = stage.start_queue(children)
        writer.be("writer_gone", "write", readers=len(readers))
        address: Any = (await writer.expect("here"))["address"]
        for rank, reader in enumerate(readers):
            reader.be("writer_gone", "read", address=address, rank=rank)
        await writer.expect("ready")
        await stage.pass_time(children, report.seconds / 2, "flood")
        killed_at = writer.kill()
        try:
            got = await all_done(readers)
        finally:
            await writer.gone()
            await _sweep()
        surely = writer.last_progress().get("written", 0)
    _note(stage, got, surely, killed_at)
    left = _left(address)
    report.check(ACT, "the next queue removed the dead writer's socket file", not left, left)


async def _sweep() -> None:
    """Do what any next writer does, and thereby remove what the dead one left: make a queue."""
    await MessageQueue.create(max_chunk_bytes=1, max_chunks=2).aclose()


def _left(address: str) -> str:
    path = Handle.from_string(address).path
    return f"{path} is there" if os.path.exists(path) else ""


def _note(stage: Stage, got: list[Event], surely: int, killed_at: int) -> None:
    report = stage.report
    values = report.values.setdefault(ACT, {})
    after = [(said["at"] - killed_at) / 1e6 for said in got]
    counts = [said["messages"] for said in got]
    values.update(surely_written=surely, messages=counts, writer_died_ms=after)
    for rank, said in enumerate(got):
        name = f"reader {rank}"
        end, detail = said["end"], "; ".join(said["problems"])
        report.check(ACT, f"{name} got WriterDied", end == "WriterDied", f"it got {end}")
        report.check(ACT, f"{name}: no hole, every checksum right", not said["wrong"], detail)
        enough = said["messages"] >= surely
        found = f"{said['messages']} where {surely} were surely written"
        report.check(ACT, f"{name} read all that was written", enough, found)
    same = len(set(counts)) == 1
    report.check(ACT, "all readers read as much", same, f"they read {counts}")
    died = f"WriterDied after {listed(after, '.1f')} ms"
    each = f"{counts[0]:,} messages by each" if same else f"{listed(counts, ',')} messages"
    read = f"{each}; {surely:,} were surely written"
    report.row(ACT, "kill -9 the writer", died)
    report.row(ACT, "read by then", read)
    stage.screen.say(f"{died}, each reader after all that was written")
    stage.screen.say(f"{read}")
