"""What the figures depend on, printed with every result."""

from __future__ import annotations

import os
from typing import Any

import aioshm
from aioshm.cli.bench.contenders import PEERS, RINGS
from aioshm.cli.machine import about
from aioshm.cli.version import version, version_of


def surroundings(loop: str) -> dict[str, Any]:
    """The machine and how busy it was, all versions, the rings, the fence and the loop."""
    versions = {peer.needs: peer.version for peer in PEERS if peer.needs}
    versions |= {name: version_of(name, name) for name in ("numpy", "uvloop")}
    return {
        "aioshm": version(),
        **about(),
        "load": os.getloadavg()[0],
        "rings": list(RINGS),
        "fence": aioshm.fence_implementation(),
        "loop": loop,
        "versions": {name: found for name, found in versions.items() if found},
    }


def describe(around: dict[str, Any]) -> str:
    """The same on a line."""
    rings = " and ".join(around["rings"])
    versions = ", ".join(f"{name} {value}" for name, value in around["versions"].items())
    return (
        "aioshm {aioshm} bench: {rings} ring, fence {fence}, {loop}; {implementation} {python}, "
        "{versions}; {processor}, {cores} cores, load {load:.1f}, Linux {kernel} {machine}"
    ).format(**{**around, "rings": rings, "versions": versions})
