"""What the figures depend on, printed with every result."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from aioshm.cli.bench.contenders import AIOSHM, PEERS, RINGS
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
        "rings": {
            ring: _fence(contender.env)
            for ring, contender in zip(RINGS, AIOSHM, strict=True)
            if contender.version is not None
        },
        "loop": loop,
        "versions": {name: found for name, found in versions.items() if found},
    }


def _fence(env: dict[str, str]) -> str:
    """What fences the memory in a process of this environment."""
    ask = "import aioshm; print(aioshm.fence_implementation())"
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


def describe(around: dict[str, Any]) -> str:
    """The same on a line."""
    rings = ", ".join(f"{ring} ring with fence {fence}" for ring, fence in around["rings"].items())
    versions = ", ".join(f"{name} {value}" for name, value in around["versions"].items())
    return (
        "aioshm {aioshm} bench: {rings}, {loop}; {implementation} {python}, "
        "{versions}; {processor}, {cores} cores, load {load:.1f}, Linux {kernel} {machine}"
    ).format(**{**around, "rings": rings, "versions": versions})
