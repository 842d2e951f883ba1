"""The second act: a hundred messages a second, then none: what waiting costs.

Every message says when it was sent; CLOCK_MONOTONIC is the same in all processes, so a
reader knows the one-way time. CPU and wake-ups are counted between two marks that the
parent asks every process for: at the beginning of a phase and at its end.
"""

from __future__ import annotations

import asyncio
import time
from itertools import cycle
from typing import Any

from aioshm import Handle, MessageQueue, Reader, Writer
from aioshm.cli.children import Child, Event
from aioshm.cli.demo.message import Verifier, library_lines, make, stamped, time_of
from aioshm.cli.demo.stage import Stage, all_done
from aioshm.cli.figures import listed, percentile
from aioshm.cli.line import Line

ACT = "trickle"
RATE = 100
"""Messages a second."""

_LINES = 10_000

# The timed sleeps of an idle end double from 0.1 s; after this long they are at their
# longest, so that what is counted then is what goes on for ever.
_SETTLE = 0.75

# -- in the child processes -----------------------------------------------------------------


async def write(line: Line, readers: int, seconds: float) -> None:
    """Be the writer: trickle when told to, then idle until told to end."""
    async with MessageQueue.create(n_reader=readers) as queue:
        line.tell("here", address=queue.export_handle().to_string())
        lines = cycle(library_lines(_LINES))
        await queue.wait_until_ready()
        line.tell("ready")
        await _answer(line, queue, [])
        messages = max(1, round(seconds * RATE))
        start = time.monotonic()
        for number in range(messages):
            await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
            text = next(lines)
            await queue.enqueue(make(number, stamped(time.monotonic_ns(), text)))
            if not number % (RATE // 4):
                line.tell("progress", done=number / messages)
        line.tell("trickled", messages=messages)
        await _answer(line, queue, [])
    line.tell("done")


async def read(line: Line, address: str, rank: int) -> None:
    """Be a reader: verify and time each message, answer the marks beside that."""
    verifier, times = Verifier(), list[int]()
    async with MessageQueue.create_from_handle(Handle.from_string(address), rank) as queue:
        await queue.wait_until_ready()
        answering = asyncio.create_task(_answer(line, queue, times))
        async for message in queue:
            times.append(time.monotonic_ns() - time_of(message[2]))
            verifier.see(message)
        answering.cancel()
    line.tell("done", **verifier.report())


async def _answer(line: Line, queue: Writer | Reader, times: list[int]) -> None:
    """Answer marks, with the times since the last one, until another command comes."""
    while await line.hear() == "mark":
        wakeups = queue.stats().waits.wakeups
        at, cpu = time.monotonic_ns(), time.process_time_ns()
        line.tell("mark", at=at, cpu=cpu, wakeups=wakeups, times=times)
        times.clear()


# -- in the parent ----------------------------------------------------------------------------


async def conduct(stage: Stage) -> None:
    """Trickle, then idle; count both."""
    report = stage.report
    stage.act(ACT, f"{RATE} messages/s, then none")
    values = report.values.setdefault(ACT, {})
    async with stage.children() as children:
        writer, readers = stage.start_queue(children)
        everybody = [writer, *readers]
        writer.be(ACT, "write", readers=len(readers), seconds=report.seconds)
        address: Any = (await writer.expect("here"))["address"]
        for rank, reader in enumerate(readers):
            reader.be(ACT, "read", address=address, rank=rank)
        await writer.expect("ready")

        before = await _marks(everybody)
        writer.do("go")
        text = f"{RATE} messages/s"
        said = await writer.expect("trickled", lambda now: stage.progress(now["done"] / 2, text))
        values["messages"] = messages = said["messages"]
        after = await _marks(everybody)
        _note_latency(stage, values, [time for mark in after for time in mark["times"]])
        _note_costs(stage, f"{RATE}/s", values, before, after)

        await stage.pass_time(children, _SETTLE, "idle", (0.5, 0.6))
        before = await _marks(everybody)
        await stage.pass_time(children, report.seconds, "idle", (0.6, 1.0))
        idle = values.setdefault("idle", {})
        _note_costs(stage, "idle", idle, before, await _marks(everybody))

        writer.do("end")
        await writer.expect("done")
        got = await all_done(readers)
    for reader, said in zip(readers, got, strict=True):
        report.check_reader(ACT, reader.name, said, messages)


async def _marks(children: list[Child]) -> list[Event]:
    for child in children:
        child.do("mark")
    return [await child.expect("mark") for child in children]


def _note_costs(
    stage: Stage, phase: str, values: dict[str, Any], before: list[Event], after: list[Event]
) -> None:
    """Note CPU in per cent of one core, and wake-ups a second; the writer comes first."""
    cpu, wakeups = [], []
    for one, other in zip(before, after, strict=True):
        passed = other["at"] - one["at"]
        cpu.append(100 * (other["cpu"] - one["cpu"]) / passed)
        wakeups.append(1e9 * (other["wakeups"] - one["wakeups"]) / passed)
    values["cpu_percent"] = {"writer": cpu[0], "readers": cpu[1:]}
    values["wakeups_per_s"] = {"writer": wakeups[0], "readers": wakeups[1:]}
    used = f"writer {cpu[0]:.2f} %, readers {listed(cpu[1:], '.2f')} %"
    woken = f"readers {listed(wakeups[1:], '.1f')} a second"
    for what, text in ((f"CPU of a core, {phase}", used), (f"wake-ups, {phase}", woken)):
        stage.report.row(ACT, what, text)
        stage.screen.say(f"{what}: {text}")


def _note_latency(stage: Stage, values: dict[str, Any], times: list[int]) -> None:
    if not times:
        return  # the checks say that nothing came
    times.sort()
    p50, p99 = (percentile(times, percent) / 1000 for percent in (50, 99))
    values["latency_us"] = {"p50": p50, "p99": p99}
    text = f"p50 {p50:,.0f} us, p99 {p99:,.0f} us one way"
    stage.report.row(ACT, "latency", text)
    stage.screen.say(f"latency: {text}")
