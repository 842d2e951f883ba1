"""The vocabulary of the checker: what a simulated process can ask of the outside.

A process is a deterministic program between two *operations*. An operation is a plain
tuple ``(kind, place, value, order)``, so that states made of them can be hashed::

    kind         place          value            what comes back
    LOAD         word or block  --               the value
    STORE        word or block  the value        None
    FENCE        --             --               None    a full barrier
    FENCE_LOADS  --             --               None    loads before it, loads after it
    RING         bell           --               None
    PARK, TURN   own bell       --               an event: what ended the sleep or turn
    CHOOSE       --             how many         one of range(value): the scheduler decides
    DONE         --             outcome          the program ended
    FAIL         --             what is wrong    a property is violated
    OUTER        --             --               the process is moved from elsewhere (modular.py)
"""

from __future__ import annotations

from typing import Any

LOAD, STORE, FENCE, FENCE_LOADS, RING, CHOOSE, PARK, TURN, DONE, FAIL, OUTER = range(11)
RELAXED, ACQUIRE, RELEASE = range(3)

Op = tuple[int, int, Any, int]

# Events that end a park or come in a turn. A lower bit says that the bell was heard.
GO, BELL, CANCEL, BELL_CANCEL = 0, 1, 2, 3
GONE = 8
"""GONE + p: the link says that process p is no more."""

EVENTS = {GO: "goes on", BELL: "hears the bell", CANCEL: "cancelled"}
EVENTS[BELL_CANCEL] = "hears the bell, cancelled in that tick"


def event_name(event: int) -> str:
    """Say what ended a sleep."""
    return EVENTS[event] if event < GONE else f"hears that process {event - GONE} is gone"


class Violation(BaseException):
    """A property does not hold; no handler of the code under test may swallow it.

    Args:
        what: which one, and how.
        path: the schedule that led there, as far as it is known (dynamics.py).
    """

    def __init__(self, what: str, path: Any = None) -> None:
        super().__init__(what)
        self.what, self.path = what, path


class Pause(BaseException):
    """The program has come to an operation whose result is not known yet."""
