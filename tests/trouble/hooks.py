"""Something that happens at the k-th moment of what an end does to the shared memory.

A moment is just before or just after an access.

The ring finds the functions by which it touches shared words among its module's names, so
they can be replaced there; what fills or reads a record's header, and what rings a bell, too.
That is the Python ring: a test with a hook uses the fixture `python_ring`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from aioshm.shm import record, ring_reader, ring_writer
from aioshm.shm.doorbell import Doorbell

_ACCESSES = (
    "fence", "fence_loads", "fill", "load", "load_acquire", "load_flags", "locate", "store",
    "store_release",
)  # fmt: skip


class _Struct:
    """A struct whose every use is announced."""

    def __init__(self, real: Any, announce: Callable[[], None]) -> None:
        self._real, self._announce = real, announce
        self.size = real.size

    def pack_into(self, *args: Any) -> None:
        self._announce()
        self._real.pack_into(*args)
        self._announce()

    def unpack_from(self, *args: Any) -> Any:
        self._announce()
        found = self._real.unpack_from(*args)
        self._announce()
        return found


class Hook:
    """Counts the moments from now on, and does something at the one of this number.

    Args:
        number: which one, counted from 1; 0 for none of them.
        does: what happens there.

    Attributes:
        count: the moments so far.
    """

    def __init__(self, number: int, does: Callable[[], None]) -> None:
        self._number, self._does = number, does
        self.count = 0
        self._patch = pytest.MonkeyPatch()
        for module in (ring_writer, ring_reader, record):
            self._put_into(module)
        self._patch.setattr(Doorbell, "ring", self._announced(Doorbell.ring))

    def _put_into(self, module: ModuleType) -> None:
        for name in _ACCESSES:
            if hasattr(module, name):
                self._patch.setattr(module, name, self._announced(getattr(module, name)))
        for name in ("HEADER", "LENGTH"):
            if hasattr(module, name):
                real = getattr(module, name)
                self._patch.setattr(module, name, _Struct(real, self._announce))

    def _announced(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def access(*args: Any) -> Any:
            self._announce()
            found = real(*args)
            self._announce()
            return found

        return access

    def _announce(self) -> None:
        self.count += 1
        if self.count == self._number:
            self._does()

    def take_off(self) -> None:
        """Put everything back."""
        self._patch.undo()


def die() -> None:
    """Kill this process, as nobody could catch it."""
    os.kill(os.getpid(), signal.SIGKILL)
