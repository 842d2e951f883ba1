"""The event loops that a command runs on, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOPS = ("asyncio", "uvloop")


def new_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Give what makes a loop of this name."""
    if name == "uvloop":
        import uvloop  # not in a process that runs without it

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    return asyncio.new_event_loop
