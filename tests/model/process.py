"""A simulated process: real Python code, run again and again up to its next operation.

Theory of operation
-------------------
A program is deterministic given the results of its operations, so a process is known by
the log of these results. To learn what it does next it is run from the beginning with
the log, and stopped by `Pause` at the first operation for which there is no result. Each
log is run once: the runs make a tree, whose nodes name the next operation.

The tree would grow with the past for ever. So a program is a sequence of *rounds*. After
each round all that its objects hold is compared with what was seen before: where it is
the same, the process is back at the old node, and the past is forgotten. A snapshot
takes numbers, bytes, and lists, tuples and dicts of them; other objects must be the ones
that were there at the beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from typing import Any, Protocol

from tests.model.ops import (
    BELL,
    CANCEL,
    DONE,
    FAIL,
    GONE,
    PARK,
    RELAXED,
    TURN,
    Op,
    Pause,
    Violation,
)
from tests.model.simulated import LOOP, OUTSIDE, Sleeper

_PLAIN = (int, bytes, str, float, type(None))
Log = tuple[Any, ...]


class Program(Protocol):
    """What a process does."""

    bell: int
    """The bell it hears."""
    objects: tuple[Any, ...]
    """All that holds state between two rounds."""
    outcome: str
    """How it ended; empty before."""

    async def round(self) -> None:
        """Go on for a while."""

    def heard(self) -> None:
        """The bell rang."""

    def gone(self, process: int) -> None:
        """The link says that another process is no more."""


class Fixed:
    """The node of a process that is moved from elsewhere, or has ended there."""

    def __init__(self, op: Op) -> None:
        self.op = op


class Node:
    """A place in the life of a process: what it does next."""

    __slots__ = ("_children", "_log", "_process", "_state", "op")

    def __init__(self, process: Process, state: Hashable, log: Log, op: Op) -> None:
        self._process, self._state, self._log = process, state, log
        self._children: dict[Any, Node] = {}
        self.op = op

    def child(self, result: Any) -> Node:
        """Where it goes from here with this result."""
        found = self._children.get(result)
        if found is None:
            found = self._process.run(self._state, (*self._log, result))
            self._children[result] = found
        return found


class Process:
    """The tree of all lives of one program.

    Args:
        program: freshly made; only ever run from here.
        ledger: the process's ledger, None if nothing watches it.
    """

    def __init__(self, program: Program, ledger: Any = None) -> None:
        self._program, self._ledger = program, ledger
        self._objects = (*program.objects, program, *(() if ledger is None else (ledger,)))
        self._known: dict[int, Any] = {}
        self._learning = True
        self._roots: dict[Hashable, Node] = {}
        self._ends: dict[str, Node] = {}
        self.runs = 0
        state = self._snapshot()
        self._learning = False
        self.first = self._root(state)

    # -- snapshots -------------------------------------------------------------------

    def _snapshot(self) -> tuple[Any, ...]:
        return tuple(
            [
                tuple([(name, self._freeze(value)) for name, value in vars(thing).items()])
                for thing in self._objects
            ]
        )

    def _freeze(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, tuple):
            return ("tuple", *[self._freeze(item) for item in value])
        if isinstance(value, list):
            return ("list", *[self._freeze(item) for item in value])
        if isinstance(value, set):
            return ("set", *[self._freeze(item) for item in sorted(value)])
        if isinstance(value, dict):
            items = value.items()
            return ("dict", *[(self._freeze(key), self._freeze(item)) for key, item in items])
        if self._learning:
            self._known[id(value)] = value
        assert id(value) in self._known, f"a round leaves {value!r} behind: no snapshot of it"
        return ("object", id(value))

    def _thaw(self, frozen: Any) -> Any:
        if not isinstance(frozen, tuple):
            return frozen
        kind, *items = frozen
        if kind == "object":
            return self._known[items[0]]
        if kind == "dict":
            return {self._thaw(key): self._thaw(item) for key, item in items}
        kinds = {"tuple": tuple, "list": list, "set": set}
        return kinds[kind]([self._thaw(item) for item in items])

    def _restore(self, state: Any) -> None:
        for thing, names in zip(self._objects, state, strict=True):
            held = vars(thing)
            held.clear()
            for name, frozen in names:
                held[name] = frozen if not isinstance(frozen, tuple) else self._thaw(frozen)

    # -- runs ------------------------------------------------------------------------

    def _root(self, state: Hashable) -> Node:
        found = self._roots.get(state)
        if found is None:
            found = self._roots[state] = self.run(state, ())
        return found

    def run(self, state: Hashable, log: Log) -> Node:
        """Run one round from a snapshot, with these results."""
        self.runs += 1
        replay = _Replay(log)
        OUTSIDE.ask, OUTSIDE.ledger = replay.ask, self._ledger
        OUTSIDE.loaded, OUTSIDE.stored = {}, {}
        asyncio._set_running_loop(LOOP)  # type: ignore[arg-type]
        self._restore(state)
        routine = self._program.round()
        try:
            _drive(routine, self._program, replay)
        except Pause:
            assert replay.wanted is not None
            return Node(self, state, log, replay.wanted)
        except Violation as violation:
            return Node(self, state, log, (FAIL, 0, violation.what, RELAXED))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            return Node(self, state, log, (FAIL, 0, text, RELAXED))
        finally:
            replay.over = True
            try:
                routine.close()
            except (Pause, Violation):
                pass  # a finally block of the code under test wanted to go on
            asyncio._set_running_loop(None)
            OUTSIDE.ask, OUTSIDE.ledger = _nobody, None
        assert replay.used == len(log), "a round was given more results than it asked for"
        if self._program.outcome:
            end = Node(self, state, log, (DONE, 0, self._program.outcome, RELAXED))
            return self._ends.setdefault(self._program.outcome, end)
        return self._root(self._snapshot())


class _Replay:
    def __init__(self, log: Log) -> None:
        self._log = log
        self.used = 0
        self.wanted: Op | None = None
        self.over = False

    def ask(self, op: Op) -> Any:
        if self.over or self.used == len(self._log):
            if not self.over:
                self.wanted, self.over = op, True
            raise Pause
        self.used += 1
        return self._log[self.used - 1]


def _nobody(op: Op) -> Any:
    raise AssertionError(f"{op} comes from no process")


def _drive(routine: Coroutine[Any, Any, None], program: Program, replay: _Replay) -> None:
    """Be the event loop of one coroutine."""
    cancelled = False
    while True:
        try:
            if cancelled:
                cancelled = False
                waits_for = routine.throw(asyncio.CancelledError())
            else:
                waits_for = routine.send(None)
        except StopIteration:
            return
        asleep = isinstance(waits_for, Sleeper)
        while True:
            kind = PARK if asleep else TURN
            event = replay.ask((kind, program.bell, None, RELAXED))
            if event >= GONE:
                program.gone(event - GONE)
            elif event & BELL:
                program.heard()
            cancelled = bool(event < GONE and event & CANCEL)
            if cancelled or not asleep or waits_for.done():
                break
