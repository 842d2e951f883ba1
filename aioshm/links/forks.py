"""What a forked child must let go of: links belong to the process that made them.

A child that kept a link's descriptors would keep its parent's peers from seeing EOF
when the parent dies. It closes them, and nothing else: a `remove_reader` in the child
would take the descriptor out of the epoll set that it shares with its parent, and
leave the parent deaf.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something with descriptors that only the process that made it may hold."""

    def abandon(self) -> None:
        """Close the descriptors of this process, touching no loop and no shared word."""


_alive: weakref.WeakSet[Forkable] = weakref.WeakSet()


def guard(item: Forkable) -> None:
    """Have `item.abandon()` called in every child that this process forks from now on."""
    _alive.add(item)


def _in_child() -> None:
    for item in list(_alive):
        item.abandon()


os.register_at_fork(after_in_child=_in_child)
