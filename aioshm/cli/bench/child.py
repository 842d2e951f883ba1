"""The entry of the bench's child processes: one measurement, from the first fork to the figures.

``python -m aioshm.cli.bench.child`` reads from its line what to measure, tells the
figures, and ends.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from aioshm.cli.bench import floors, work
from aioshm.cli.bench.channels.channel import Channel, Setting
from aioshm.cli.bench.family import Family, die_with
from aioshm.cli.bench.payload import Payload
from aioshm.cli.line import Line


def _channel(where: str, setting: Setting) -> Channel:
    module, _, name = where.rpartition(".")
    channel: Channel = getattr(importlib.import_module(module), name)(setting)
    return channel


def _measure(line: Line, asked: dict[str, Any], loop: str) -> work.Figures:
    payload = Payload(asked["kind"], asked["size"])
    seconds: float = asked["seconds"]
    match asked["channel"]:
        case "pickle":
            return {"value": floors.pickle_alone(payload, seconds), "readers": []}
        case "memcpy":
            return {"value": floors.memcpy_alone(payload, seconds), "readers": []}
        case "eventfd":
            return _bells(line, seconds, asked["interval"])
    setting = Setting(
        readers=asked["readers"],
        nbytes=payload.encoded(),
        loop=loop,
        yield_for=asked["yield_for"],
        scratch=asked["scratch"],
    )
    channel = _channel(asked["channel"], setting)
    match asked["work"]:
        case "flood":
            return work.flood(line, channel, payload, seconds)
        case "rate":
            return work.rate(line, channel, payload, seconds, asked["per_s"])
        case "round trip":
            back = _channel(asked["channel"], setting)
            return work.round_trip(line, channel, back, payload, seconds, asked["interval"])
    raise ValueError(f"no work called {asked['work']!r}")


def _bells(line: Line, seconds: float, interval: float) -> work.Figures:
    bells, family = floors.Bells(), Family(line.tell)
    family.fork("the answering process", bells.pong)
    figures = work.latency(bells.ping(seconds, interval))
    family.collect()
    bells.close()
    return {**figures, "readers": []}


def main(parent: int) -> int:
    """Measure what the first line says."""
    die_with(parent)
    line = Line()
    values = line.first()
    if not values:
        return 0
    loop = values.pop("loop")
    try:
        line.tell("done", **_measure(line, values, loop))
    except Exception as error:
        line.tell("error", text=f"{type(error).__name__}: {error}")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(os.getppid()))
