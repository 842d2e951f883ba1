"""Calls that do not keep alive whom they call.

The loop and a socket's pump hold what they call back. An end that its program dropped
without closing it must be collected even so, so that its peers hear of its end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Give a call that does not keep the method's object alive, and then does nothing."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
