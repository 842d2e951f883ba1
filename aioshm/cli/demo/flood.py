"""The first act: one writer floods its readers, and zmq.asyncio does the same after it.

Both send the same lines to as many readers for as long, in processes of their own and in
the same kind of loop, and both are measured the same way: from just before the first
message until the last reader has verified the last one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aioshm import Handle, MessageQueue
from aioshm.cli.children import Event
from aioshm.cli.demo.message import Message, Verifier, library_lines, messages
from aioshm.cli.demo.stage import Stage, all_done
from aioshm.cli.line import Line

ACT = "flood"
_LINES_PER_SECOND = 300_000
_PROGRESS_NS = 100_000_000

# -- in the child processes -----------------------------------------------------------------


async def write(line: Line, readers: int, seconds: float) -> None:
    """Be the writer: send for so long, then close."""
    async with MessageQueue.create(n_reader=readers) as queue:
        line.tell("here", address=queue.export_handle().to_string())
        lines = messages(enough_lines(seconds))
        await queue.wait_until_ready()
        line.tell("done", **await send_for(seconds, lines, queue.enqueue, line))


async def read(line: Line, address: str, rank: int) -> None:
    """Be a reader: verify all there is, until the writer closes."""
    verifier = Verifier()
    async with MessageQueue.create_from_handle(Handle.from_string(address), rank) as queue:
        await queue.wait_until_ready()
        async for message in queue:
            verifier.see(message)
        line.tell("done", end=time.monotonic_ns(), **verifier.report())


def enough_lines(seconds: float) -> list[bytes]:
    """The lines that either side sends, over and over if it is fast."""
    return library_lines(math.ceil(seconds * _LINES_PER_SECOND))


async def send_for(
    seconds: float,
    lines: Iterator[Message],
    send: Callable[[Message], Awaitable[object]],
    line: Line,
) -> dict[str, int]:
    """Send messages as fast as they are taken, for some time; report how it goes.

    Returns:
        When it began (``start``), ``messages`` and their ``nbytes``.
    """
    sent = nbytes = 0
    start = time.monotonic_ns()
    end = start + int(seconds * 1e9)
    tell_at = start + _PROGRESS_NS
    for message in lines:
        await send(message)
        sent += 1
        nbytes += len(message[2])
        if not sent % 64:
            now = time.monotonic_ns()
            if now >= end:
                break
            if now >= tell_at:
                tell_at = now + _PROGRESS_NS
                line.tell("progress", messages=sent, passed=(now - start) / 1e9)
    return {"start": start, "messages": sent, "nbytes": nbytes}


# -- in the parent ----------------------------------------------------------------------------


@dataclass
class Rate:
    """How fast one side was."""

    messages: int
    seconds: float
    messages_per_s: float
    mb_per_s: float

    def __str__(self) -> str:
        return f"{self.messages_per_s:,.0f} messages/s, {self.mb_per_s:.1f} MB/s"


async def conduct(stage: Stage) -> None:
    """Run both sides and compare them."""
    report, screen = stage.report, stage.screen
    stage.act(ACT, f"the standard library line by line, one writer to {report.readers} readers")
    values = report.values.setdefault(ACT, {})
    ours = await _side(stage, "aioshm", "flood", 0.0)
    values.update(vars(ours))
    report.row(ACT, "messages", f"{ours.messages:,} to each of {report.readers} readers, verified")
    report.row(ACT, "aioshm", str(ours))
    screen.say(f"aioshm       {ours}")

    theirs = await _side(stage, "zmq.asyncio", "zmq_flood", 0.5)
    times = ours.messages_per_s / theirs.messages_per_s
    values.update(zmq=vars(theirs), times_zmq=times)
    report.row(ACT, "zmq.asyncio", str(theirs))
    report.row(ACT, "ratio", f"{times:.1f} times zmq.asyncio, same run")
    screen.say(f"zmq.asyncio  {theirs}")
    screen.say(f"{ours}: {times:.1f} times zmq.asyncio, same run")


async def _side(stage: Stage, name: str, module: str, begin: float) -> Rate:
    report = stage.report

    def progress(said: Event) -> None:
        sent, passed = said["messages"], said["passed"]
        text = f"{name:<11}  {sent:,} messages, {sent / passed:,.0f}/s"
        stage.progress(begin + min(1.0, passed / report.seconds) / 2, text)

    async with stage.children() as children:
        writer, readers = stage.start_queue(children)
        writer.be(module, "write", readers=len(readers), seconds=report.seconds)
        address: Any = (await writer.expect("here"))["address"]
        for rank, reader in enumerate(readers):
            reader.be(module, "read", address=address, rank=rank)
        sent = await writer.expect("done", progress)
        got = await all_done(readers)
    for reader, said in zip(readers, got, strict=True):
        report.check_reader(ACT, f"{name}: {reader.name}", said, sent["messages"])
    elapsed = (max(said["end"] for said in got) - sent["start"]) / 1e9
    count, nbytes = sent["messages"], sent["nbytes"]
    return Rate(count, elapsed, count / elapsed, nbytes / 1e6 / elapsed)
