"""What is measured: a flood, a round trip, a rate; the same code for all contenders.

Each function runs in the child that the command started. It forks the readers, is the
writer itself, and returns the figures with what each reader proved.
"""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from typing import Any

from aioshm.cli.bench.channels.channel import Channel, Out
from aioshm.cli.bench.family import Family, cpu_of
from aioshm.cli.bench.payload import Payload, Verifier
from aioshm.cli.figures import percentile
from aioshm.cli.line import Line

Figures = dict[str, Any]

PER_DECADE = 50
"""Classes of the latency histogram in a decade."""

_WARM_UP = 0.1
"""The part of the round trips that is not counted, beside the very first."""

# An end's timed sleeps double from 0.1 s to 1 s; what is counted later goes on for ever.
_SETTLE = 0.75
_TICK = 1e-3


def flood(line: Line, channel: Channel, payload: Payload, seconds: float) -> Figures:
    """Send as fast as it is taken: messages/s until the last reader has the last one."""
    family = _fork_readers(line, channel, payload)

    async def write() -> Figures:
        async with channel.writer() as out:
            await out.ready()
            start = time.monotonic_ns()
            sent = await _send_for(seconds, out, payload)
            got = await channel.aside(family.collect)
        passed = (max(reader["end"] for reader in got) - start) / 1e9
        return {
            "value": sent / passed,
            "mb_per_s": sent * payload.encoded() / 1e6 / passed,
            "sent": sent,
            "readers": got,
        }

    return channel.drive(write())


def rate(
    line: Line, channel: Channel, payload: Payload, seconds: float, per_s: float | None
) -> Figures:
    """Send so many messages a second, None for a flood: CPU of the reader, in % of a core."""
    family = _fork_readers(line, channel, payload)

    async def write() -> Figures:
        async with channel.writer() as out:
            await out.ready()
            await channel.sleep(0.0 if per_s else _SETTLE)
            pids = [_OWN, *family.pids]
            start, before = time.monotonic_ns(), cpu_of(pids)
            if per_s is None:
                sent = await _send_for(seconds, out, payload, last=False)
            else:
                sent = await _send_at(per_s, seconds, channel, out, payload)
            after, passed = cpu_of(pids), time.monotonic_ns() - start
            await out.send(None)
            got = await channel.aside(family.collect)
        used = [100 * (b - a) / passed for a, b in zip(before, after, strict=True)]
        return {
            "value": used[1],
            "writer_percent": used[0],
            "messages_per_s": sent * 1e9 / passed,
            "sent": sent,
            "readers": got,
        }

    return channel.drive(write())


_OWN = 0  # the clock id of pid 0 is that of the calling process


def round_trip(
    line: Line, there: Channel, back: Channel, payload: Payload, seconds: float, interval: float
) -> Figures:
    """Send a message, wait for it to come back, over and over: microseconds, the median."""
    family = Family(line.tell)

    async def answer() -> Figures:
        verifier = Verifier(payload)
        async with there.reader(0) as end, back.writer() as out:
            await end.ready()
            await out.ready()
            while (message := await end.receive()) is not None:
                await out.send(message)
                verifier.see(message)
            return {**verifier.report(), "parks": end.parks()}

    async def ask() -> Figures:
        verifier, times = Verifier(payload), list[int]()
        async with there.writer() as out, back.reader(0) as end:
            await out.ready()
            await end.ready()
            begin = time.monotonic_ns()
            until = begin + int(seconds * 1e9)
            while (start := time.monotonic_ns()) < until:
                message = payload.make(len(times))
                start = time.monotonic_ns()
                await out.send(message)
                message = await end.receive()
                times.append(time.monotonic_ns() - start)
                verifier.see(message)
                if interval:
                    due = begin / 1e9 + len(times) * interval
                    while (left := due - time.monotonic()) > 0:
                        await there.sleep(left)  # uvloop may come back early
            await out.send(None)
            mine = {**verifier.report(), "parks": end.parks()}
            # Its writer goes only when the other end has read the last of it.
            others = await there.aside(family.collect)
        readers = [*others, mine]
        parks = sum(reader["parks"] for reader in readers) / len(times)
        return {**latency(times), "parks": parks, "sent": len(times), "readers": readers}

    family.fork("the answering process", lambda: there.drive(answer()))
    return there.drive(ask())


def latency(times: list[int]) -> Figures:
    """Sum up round trips: the median is the value; how often each class of time was seen."""
    counted = sorted(times[int(len(times) * _WARM_UP) + 1 :] or times)
    classes = Counter(math.floor(math.log10(time) * PER_DECADE) for time in counted)
    p50, p90, p99 = (percentile(counted, percent) / 1e3 for percent in (50, 90, 99))
    histogram = {str(number): classes[number] for number in sorted(classes)}
    return {"value": p50, "p90": p90, "p99": p99, "histogram": histogram}


# -- writers and readers ------------------------------------------------------------------------


def _fork_readers(line: Line, channel: Channel, payload: Payload) -> Family:
    family = Family(line.tell)
    gc.freeze()  # so that collections there leave alone the pages that the processes share
    for rank in range(channel.setting.readers):

        def read(rank: int = rank) -> Figures:
            return channel.drive(_read(channel, rank, payload))

        family.fork(f"reader {rank}", read)
    return family


async def _read(channel: Channel, rank: int, payload: Payload) -> Figures:
    verifier = Verifier(payload)
    see = verifier.see
    async with channel.reader(rank) as end:
        await end.ready()
        receive = end.receive
        while (message := await receive()) is not None:
            see(message)
        ended = time.monotonic_ns()
        return {**verifier.report(), "end": ended}


async def _send_for(seconds: float, out: Out, payload: Payload, *, last: bool = True) -> int:
    """Send for so long, then None as the last one; returns how many there were."""
    send, make, look_every = out.send, payload.make, payload.look_every
    end = time.monotonic_ns() + int(seconds * 1e9)
    sent = 0
    while True:
        await send(make(sent))
        sent += 1
        if not sent % look_every and time.monotonic_ns() >= end:
            break
    if last:
        await send(None)
    return sent


async def _send_at(
    per_s: float, seconds: float, channel: Channel, out: Out, payload: Payload
) -> int:
    """Send what is due, a loop's finest sleep apart at most; returns how many there were."""
    start = time.monotonic()
    sent = 0
    while (passed := time.monotonic() - start) < seconds:
        due = math.ceil(passed * per_s)
        while sent < due:
            await out.send(payload.make(sent))
            sent += 1
        next_one = sent / per_s if per_s else seconds
        await channel.sleep(max(_TICK, min(next_one, seconds) - passed))
    return sent
