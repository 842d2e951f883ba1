"""Litmus tests: a few loads and stores each, whose outcomes the literature settles.

A test is a row of threads; a thread is a row of lines::

    "x=1"  store    "x=1 rel"  store release    "a=x"  load into a    "a=x acq"  load acquire
    "fence"         "fence_loads"

A run's outcome is what all registers hold in the end, as "a=1 b=0".
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.model.dynamics import Dynamics, State
from tests.model.memory import Plan
from tests.model.ops import (
    ACQUIRE,
    DONE,
    FENCE,
    FENCE_LOADS,
    LOAD,
    RELAXED,
    RELEASE,
    STORE,
    Op,
)
from tests.model.scenario import MODES

_ORDERS = {"": RELAXED, "acq": ACQUIRE, "rel": RELEASE}


class Thread:
    """A node of a straight-line program: its operation, and where each result leads."""

    def __init__(self, lines: tuple[str, ...], places: str, got: tuple[str, ...] = ()) -> None:
        self._lines, self._places, self._got = lines, places, got
        self.op = self._operation()

    def _operation(self) -> Op:
        if not self._lines:
            return DONE, 0, " ".join(self._got), RELAXED
        line = self._lines[0]
        if line in ("fence", "fence_loads"):
            return (FENCE if line == "fence" else FENCE_LOADS), 0, None, RELAXED
        access, _, order = line.partition(" ")
        target, _, source = access.partition("=")
        if target in self._places:
            return STORE, self._places.index(target), int(source), _ORDERS[order]
        return LOAD, self._places.index(source), None, _ORDERS[order]

    def child(self, result: object) -> Thread:
        """The next line."""
        got = self._got
        if self.op[0] == LOAD:
            got = (*got, f"{self._lines[0].partition('=')[0]}={result}")
        return Thread(self._lines[1:], self._places, got)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thread) and (self._lines, self._got) == (other._lines, other._got)

    def __hash__(self) -> int:
        return hash((self._lines, self._got))


def outcomes(mode: str, threads: Sequence[str], *, reduced: bool = True) -> set[str]:
    """All outcomes of a test: each thread is lines with semicolons between them."""
    programs = [tuple(line.strip() for line in thread.split(";")) for thread in threads]
    places = "".join(sorted(place for place in "xyz" if place in " ".join(threads)))
    count = len(programs)
    everyone = (frozenset(range(count)),) * len(places)
    plan = Plan((0,) * len(places), count, (), everyone, everyone, everyone)
    memory = MODES[mode](plan)
    names = [f"P{p}" for p in range(count)]
    dynamics = Dynamics(memory, names, reduced=reduced)
    nodes = [Thread(lines, places) for lines in programs]
    seen: set[State] = set()
    found = set()
    todo = [state for _, state in dynamics.settle(None, (*nodes, memory.initial(), 0, 0, 0))]
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        after = [new for _, new in dynamics.successors(state)]
        todo += after
        if not after:
            assert all(node.op[0] == DONE for node in state[:count]), "a litmus test is stuck"
            found.add(" ".join(filter(None, (node.op[2] for node in state[:count]))))
    return found
