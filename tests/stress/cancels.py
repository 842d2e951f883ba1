"""Cancel storms over the calls that move messages, between a writer and a reader process.

Three tasks at the struck end each repeat a call until it succeeds. A message's number says
which task wrote it and as which of its own, so the reader sees per task what is lost,
doubled or out of order; both ends' counts must agree at the end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aioshm import Handle, MessageQueue, QueueShutDown, Reader, Writer
from tests.helpers import HANG
from tests.stress import traffic
from tests.stress.steady import PATIENT, pause
from tests.stress.storm import Storm
from tests.stress.wire import Wire
from tests.stress.witness import DONE, Witness, consumed

LANES = 3
LARGEST = 1024


@dataclass
class StormReport:
    """What an end did.

    Attributes:
        cancels, longest: of its storm.
        lanes: messages per task.
        wrong: broken promises.
        rescues: from its stats.
    """

    cancels: int = 0
    longest: float = 0.0
    lanes: list[int] = field(default_factory=lambda: [0] * LANES)
    wrong: list[str] = field(default_factory=list)
    rescues: int = 0


async def _pace(source: random.Random) -> None:
    """Be slower than the struck end, so that its calls have to wait."""
    draw = source.random()
    if draw < 0.05:
        await asyncio.sleep(0.001)
    elif draw < 0.5:
        pause(source)


# -- the writer ------------------------------------------------------------------------------


async def _enqueue(queue: Writer, message: bytes) -> None:
    await queue.enqueue(message)


async def _broadcast(queue: Writer, message: bytes) -> None:
    assert await queue.broadcast_object(message) is message


async def _acquire_write(queue: Writer, message: bytes) -> None:
    async with queue.acquire_write(len(message)) as lease:
        half = len(message) // 2
        lease.buffer[:half] = message[:half]
        await asyncio.sleep(0)  # a cancel may land inside the lease, too
        lease.buffer[half:] = message[half:]


WRITES: dict[str, Callable[[Writer, bytes], Awaitable[None]]] = {
    "enqueue": _enqueue,
    "broadcast_object": _broadcast,
    "acquire_write": _acquire_write,
}


async def storm_write(wire: Wire, witness: Witness, call: str, goal: int, seed: str) -> None:
    """Write under a storm of `goal` cancels if `call` writes, else at a pace, until told."""
    source, report = random.Random(seed), StormReport()
    storm = Storm(seed, goal if call in WRITES else 0)
    write = WRITES.get(call, _enqueue)
    stop, words = asyncio.Event(), witness.words
    async with MessageQueue.create(
        1, max_chunk_bytes=LARGEST, max_chunks=2, backoff=PATIENT
    ) as queue:
        wire.send(("handle", queue.handle))
        await queue.wait_until_ready(HANG)

        async def lane(own: int) -> None:
            draw = traffic.Source(f"{seed} {own}", LARGEST)
            while not (stop.is_set() and storm.over):
                number = own << 32 | report.lanes[own]
                message = traffic.as_bytes(number, draw.payload(draw.size()), LARGEST)

                async def once(message: bytes = message) -> None:
                    await write(queue, message)
                    report.lanes[own] += 1
                    words[DONE] += 1

                await storm.strike(once)
                if not storm.goal:
                    await _pace(source)

        async def obey() -> None:
            await wire.receive()
            stop.set()

        async with asyncio.TaskGroup() as group:
            for own in range(LANES):
                group.create_task(lane(own))
            group.create_task(obey())
        report.cancels, report.longest = storm.cancels, storm.longest
        report.rescues = queue.stats().waits.rescues
    wire.send(("stormed", report))


# -- the reader ------------------------------------------------------------------------------

Note = Callable[[object], None]


async def _dequeue(queue: Reader, note: Note) -> None:
    note(await queue.dequeue())


async def _broadcast_read(queue: Reader, note: Note) -> None:
    note(await queue.broadcast_object())


async def _acquire_read(queue: Reader, note: Note) -> None:
    async with queue.acquire_read() as lease:
        message = lease.load()
        await asyncio.sleep(0)  # a cancel may land inside the lease, too
    note(message)


async def _async_for(queue: Reader, note: Note) -> None:
    async for message in queue:
        note(message)
        if traffic.examine(message)[0] % 5 == 0:
            return
    raise QueueShutDown("the loop came to its end")


READS: dict[str, Callable[[Reader, Note], Awaitable[None]]] = {
    "dequeue": _dequeue,
    "broadcast_object": _broadcast_read,
    "acquire_read": _acquire_read,
    "async for": _async_for,
}


async def storm_read(
    wire: Wire, witness: Witness, handle: Handle, call: str, goal: int, seed: str
) -> None:
    """Read under a storm of `goal` cancels if `call` reads, else at a pace, to the end."""
    source, report = random.Random(seed), StormReport()
    storm = Storm(seed, goal if call in READS else 0)
    read, words = READS.get(call, _dequeue), witness.words
    said = False

    def note(message: object) -> None:
        number, wrong = traffic.examine(message)
        own, count = number >> 32, number & 0xFFFFFFFF
        if wrong or not 0 <= own < LANES or count != report.lanes[own]:
            report.wrong.append(wrong or f"{own}/{count} came, of {report.lanes} read so far")
        else:
            report.lanes[own] += 1
        words[consumed(0)] += 1

    async with MessageQueue.create_from_handle(handle, 0, backoff=PATIENT) as queue:
        await queue.wait_until_ready(HANG)

        async def lane() -> None:
            nonlocal said
            try:
                while len(report.wrong) < 10:
                    await storm.strike(lambda: read(queue, note))
                    if storm.over and not said:
                        said = True
                        wire.send(("enough", None))
                    if not storm.goal:
                        await _pace(source)
            except QueueShutDown:
                pass

        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(lane())
        report.cancels, report.longest = storm.cancels, storm.longest
        report.rescues = queue.stats().waits.rescues
    wire.send(("stormed", report))
