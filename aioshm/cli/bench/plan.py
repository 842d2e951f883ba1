"""What is measured: the cases, and who takes part in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aioshm.cli.bench.contenders import (
    AIOSHM,
    EVENTFD,
    MEMCPY,
    MP_PIPE,
    MP_QUEUE,
    PEERS,
    PICKLE,
    REMOTE,
    ZMQ_IPC,
    ZMQ_NOCOPY,
    ZMQ_TCP,
    Contender,
)
from aioshm.cli.bench.payload import KINDS, SMALL
from aioshm.cli.version import version_of

Work = Literal["flood", "round trip", "rate"]

UNITS: dict[Work, str] = {"flood": "messages/s", "round trip": "us", "rate": "%"}
"""What the figures are: of a rate the CPU, 100 is a core. Only of a flood is more better."""

SIZES = {"64B": 64, "1KiB": 1 << 10, "64KiB": 1 << 16, "1MiB": 1 << 20}
READERS = (1, 2, 4, 8)
STEP = 2e-3
"""Seconds from one message to the next, an engine's step."""

_LARGE = 1 << 16


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Args:
        key: its name, in JSON and for ``--only``.
        group: its heading.
        title: what it is, for people.
        work: which of the three kinds of work.
        contenders: who takes part.
        kind, size: of the payload.
        readers: how many.
        interval: seconds from one round trip to the next, 0 for none.
        per_s: messages a second, None for as many as are taken.
        yield_for: seconds that aioshm yields before it parks, None for its default.
        at_least: seconds that a measurement must last to mean something.
        quick: it is part of ``--quick``.
    """

    key: str
    group: str
    title: str
    work: Work
    contenders: tuple[Contender, ...]
    kind: str = "dict"
    size: int = SMALL
    readers: int = 1
    interval: float = 0.0
    per_s: float | None = None
    yield_for: float | None = None
    at_least: float = 0.0
    quick: bool = False

    def asked(self, contender: Contender, seconds: float, scratch: str) -> dict[str, Any]:
        """What a child is asked to measure."""
        return {
            "channel": contender.channel,
            "work": self.work,
            "kind": self.kind,
            "size": self.size,
            "readers": self.readers,
            "interval": self.interval,
            "per_s": self.per_s,
            "yield_for": self.yield_for,
            "seconds": max(seconds, self.at_least),
            "scratch": scratch,
        }


def _peers_but(*others: Contender) -> tuple[Contender, ...]:
    return tuple(peer for peer in PEERS if peer not in others)


def _throughput(readers: int) -> Case:
    one_reader_only = () if readers == 1 else (ZMQ_TCP,)
    peers = _peers_but(ZMQ_NOCOPY, *one_reader_only)
    each = "1 reader" if readers == 1 else f"{readers} readers"
    return Case(
        f"throughput-{readers}", "throughput", f"small dict, {each}", "flood",
        (*AIOSHM, *peers, PICKLE), readers=readers, quick=readers in (1, 8),
    )  # fmt: skip


def _payload(kind: str, name: str, size: int) -> Case:
    large = size >= _LARGE
    peers = PEERS if large and kind != "dict" else _peers_but(ZMQ_NOCOPY)
    floors = (PICKLE, MEMCPY) if large else (PICKLE,)
    return Case(
        f"{kind}-{name}", "payload", f"{kind} of {name}", "flood",
        (*AIOSHM, *peers, *floors), kind=kind, size=size, quick=(kind, name) == ("numpy", "1MiB"),
    )  # fmt: skip


def _cpu(
    name: str, title: str, per_s: float | None, at_least: float = 0.0, quick: bool = False
) -> Case:
    return Case(
        f"cpu-{name}", "CPU of a reader", title, "rate", (*AIOSHM, ZMQ_IPC, MP_QUEUE),
        per_s=per_s, at_least=at_least, quick=quick,
    )  # fmt: skip


CASES = (
    *map(_throughput, READERS),
    Case(
        "remote-1", "throughput", "small dict, 1 remote reader", "flood",
        (REMOTE, ZMQ_TCP, PICKLE), quick=True,
    ),
    Case(
        "remote-roundtrip", "round trip", "remote, both ends awake", "round trip",
        (REMOTE, ZMQ_TCP),
    ),
    Case(
        "roundtrip-awake", "round trip", "both ends awake", "round trip",
        (*AIOSHM, *_peers_but(ZMQ_NOCOPY)), quick=True,
    ),
    Case(
        "roundtrip-parked", "round trip", "both ends park each time", "round trip",
        (*AIOSHM, ZMQ_IPC, MP_PIPE, EVENTFD), yield_for=0.0, quick=True,
    ),
    Case(
        "roundtrip-2ms", "round trip", "one every 2 ms", "round trip",
        (*AIOSHM, ZMQ_IPC, MP_PIPE, EVENTFD), interval=STEP, quick=True,
    ),
    Case(
        "roundtrip-2ms-awake", "round trip", "one every 2 ms, yield_for=2.5e-3", "round trip",
        AIOSHM, interval=STEP, yield_for=2.5e-3, quick=True,
    ),
    *(_payload(kind, name, size) for kind in KINDS for name, size in SIZES.items()),
    # Above max_chunk_bytes, so that aioshm sends it beside the ring.
    _payload("bytes", "16MiB", 16 << 20),
    # Two of the looks that an idle end takes by itself, one a second.
    _cpu("idle", "idle", 0.0, at_least=2.0, quick=True),
    _cpu("100", "100 messages/s", 100.0, at_least=1.0, quick=True),
    _cpu("10k", "10,000 messages/s", 10_000.0),
    _cpu("saturated", "saturated", None),
)  # fmt: skip


def choose(quick: bool, only: Sequence[str]) -> list[Case]:
    """The cases of a run: those of ``--quick``, or all; of them, those that ``--only`` names.

    A name given by `only` that only the long run has is measured by a quick one too.

    Raises:
        LookupError: `only` names something that there is not.
    """
    for word in only:
        if not any(word in case.key for case in CASES):
            keys = ", ".join(case.key for case in CASES)
            raise LookupError(f"{word!r} is in none of these: {keys}")
    if only:
        return [case for case in CASES if any(word in case.key for word in only)]
    return [case for case in CASES if case.quick or not quick]


def missing_of(case: Case) -> str:
    """The distribution without which nobody can send this payload; "" if all is there."""
    if case.kind != "numpy" or version_of("numpy", "numpy"):
        return ""
    return "numpy"
