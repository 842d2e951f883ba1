"""What the figures depend on, printed with every result."""

from __future__ import annotations

import os
from importlib.metadata import version as version_of
from importlib.util import find_spec
from typing import Any

import aioshm
from aioshm.cli.bench.contenders import PEERS, RINGS
from aioshm.cli.machine import about
from aioshm.cli.version import version


def surroundings(loop: str) -> dict[str, Any]:
    """The machine and how busy it was, all versions, the rings, the fence and the loop."""
    peers = {peer.needs: peer.version for peer in PEERS if peer.needs and peer.version}
    others = {name: version_of(name) for name in ("numpy", "uvloop") if find_spec(name)}
    return {
        "aioshm": version(),
        **about(),
        "load": os.getloadavg()[0],
        "rings": list(RINGS),
        "fence": aioshm.fence_implementation(),
        "loop": loop,
        "versions": {**peers, **others},
    }


def describe(around: dict[str, Any]) -> str:
    """The same on a line."""
    rings = " and ".join(around["rings"])
    versions = ", ".join(f"{name} {value}" for name, value in around["versions"].items())
    return (
        "aioshm {aioshm} bench: {rings} ring, fence {fence}, {loop}; {implementation} {python}, "
        "{versions}; {processor}, {cores} cores, load {load:.1f}, Linux {kernel} {machine}"
    ).format(**{**around, "rings": rings, "versions": versions})
