"""The writer and one reader: what becomes of the reader's state, step by step.

A state is one of `Dynamics` for two processes, of which the writer is moved from outside
(modular.py). States go by number, and every question about one is answered once: the
tables below fill themselves as they are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from tests.model.dynamics import State
from tests.model.ops import DONE, LOAD, OUTER, RELAXED, RING, STORE, Op
from tests.model.process import Fixed
from tests.model.scenario import Setting

_MOVED = Fixed((OUTER, 0, None, RELAXED))
_ENDED = Fixed((DONE, 0, "", RELAXED))
_READER_GONE = 1 << (0 * 2 + 1)

T = TypeVar("T")
Numbers = tuple[int, ...]


class Table(dict[int, T], Generic[T]):
    """Answers by number, each worked out at the first look."""

    def __init__(self, answer: Callable[[int], T]) -> None:
        super().__init__()
        self._answer = answer

    def __missing__(self, number: int) -> T:
        found = self[number] = self._answer(number)
        return found


class Pair:
    """All states of one reader, and of the memory between it and the writer.

    Args:
        setting: what is explored.

    Attributes:
        states: the states by number.
        first: where it begins.
        following: what the reader can do without the writer.
        quiet: whether the reader neither goes on by itself nor has woken the writer.
        drained: what becomes of it when the writer's oldest store is performed.
        heard: ... when the writer hears this reader's bell; empty if it is silent.
        met_end: ... when the writer hears that the reader is gone; empty if it is not.
        cancelled: ... when the writer is cancelled; empty if the reader was before.
        died: ... when the writer dies; empty if the reader did before.
        ended: ... when the writer is done.
    """

    def __init__(self, setting: Setting) -> None:
        self.dynamics = setting.pair()
        self._memory = self.dynamics.memory
        self._places, self._buffered = setting.places, setting.mode == "tso"
        self.states: list[State] = []
        self._number: dict[State, int] = {}
        self.following = Table(self._following)
        self.quiet = Table(self._quiet)
        self.drained = Table(self._drained)
        self.heard = Table(self._heard)
        self.met_end = Table(self._met_end)
        self.cancelled = Table(self._cancelled)
        self.died = Table(self._died)
        self.ended = Table(self._ended)
        self._stepped: dict[Op, Table[tuple[tuple[Any, Numbers], ...]]] = {}
        self._restful: set[int] = set()
        scenario = setting.scenario
        reader = setting.processes[1].first
        memory = self._memory.initial()
        self.first = self._settled(_MOVED, reader, memory, scenario.cancels, scenario.deaths, 0)

    def _settled(self, *state: Any) -> Numbers:
        return tuple([self._named(new) for _, new in self.dynamics.settle(None, state)])

    def _named(self, state: State) -> int:
        number = self._number.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number

    # -- the reader's own steps ----------------------------------------------------------

    def _following(self, number: int) -> Numbers:
        state = self.states[number]
        return tuple([self._named(new) for _, new in self.dynamics.successors(state)])

    def close(self, new: set[int], known: set[int]) -> None:
        """Add to ``new`` what the reader can make of it, but for what is known."""
        following = self.following
        todo = list(new)
        for number in todo:
            for after in following[number]:
                if after not in new and after not in known:
                    new.add(after)
                    todo.append(after)

    def _quiet(self, number: int) -> bool:
        state = self.states[number]
        uncancelled = (*state[:3], 0, *state[4:])
        return (
            not state[-1] & _READER_GONE
            and self._memory.heard(state[2], 0, 0) is None
            and not any(True for _ in self.dynamics.successors(uncancelled))
        )

    def comes_to_rest(self, numbers: Iterable[int]) -> bool:
        """Tell whether the reader stops if the writer does: it goes round nowhere."""
        for root in numbers:
            if root in self._restful:
                continue
            path = {root}
            stack = [(root, iter(self.following[root]))]
            while stack:
                number, rest = stack[-1]
                for new in rest:
                    if new in path:
                        return False
                    if new not in self._restful:
                        path.add(new)
                        stack.append((new, iter(self.following[new])))
                        break
                else:
                    stack.pop()
                    path.discard(number)
                    self._restful.add(number)
        return True

    # -- the writer's steps ----------------------------------------------------------------

    def seen_from(self, slot: int, op: Op) -> Op | None:
        """An access of the writer, as it looks to the reader of a slot, if it is one.

        Every reader is as reader 0 is in the pair; and what the writer does for another
        one concerns it only where it takes a place in the store buffer.
        """
        kind, place, value, order = op
        places = self._places
        if kind == RING:
            if place == 1 + slot:
                return kind, 1, value, order
            return (kind, 2, value, order) if self._buffered else None
        if kind in (LOAD, STORE) and place > places.closed:
            for row in (places.parked, places.read):
                if place == row[slot]:
                    return kind, row[0], value, order
            return (kind, places.parked[1], value, order) if self._buffered else None
        return op

    def stepped(self, op: Op) -> Table[tuple[tuple[Any, Numbers], ...]]:
        """What an access of the writer can give, and what becomes of the state."""
        table = self._stepped.get(op)
        if table is None:

            def step(number: int) -> tuple[tuple[Any, Numbers], ...]:
                state = self.states[number]
                return tuple(
                    (result, self._settled(*state[:2], after, *state[3:]))
                    for result, after in self._memory.step(state[2], 0, op)
                )

            table = self._stepped[op] = Table(step)
        return table

    def buffer(self, number: int) -> Any:
        """The writer's store buffer."""
        return self.states[number][2][2][0] if self._buffered else ()

    def _drained(self, number: int) -> Numbers:
        state = self.states[number]
        return tuple(
            new
            for p, _, after in self._memory.drains(state[2])
            if p == 0
            for new in self._settled(*state[:2], after, *state[3:])
        )

    def _heard(self, number: int) -> Numbers:
        state = self.states[number]
        after = self._memory.heard(state[2], 0, 0)
        return () if after is None else self._settled(*state[:2], after, *state[3:])

    def _met_end(self, number: int) -> Numbers:
        state = self.states[number]
        if not state[-1] & _READER_GONE:
            return ()
        after = self._memory.met_end(state[2], 0, 1)
        if after is None:
            return ()
        return self._settled(*state[:2], after, *state[3:-1], state[-1] & ~_READER_GONE)

    def _cancelled(self, number: int) -> Numbers:
        *before, cancels, deaths, news = self.states[number]
        return self._settled(*before, cancels - 1, deaths, news) if cancels else ()

    def _died(self, number: int) -> Numbers:
        state = self.states[number]
        *_, cancels, deaths, _ = state
        if not deaths:
            return ()
        after = self._memory.retired(state[2], 0, died=True)
        news = self.dynamics.news(state, 0)
        return self._settled(None, state[1], after, cancels, deaths - 1, news)

    def _ended(self, number: int) -> Numbers:
        state = self.states[number]
        after = self._memory.retired(state[2], 0, died=False)
        return self._settled(_ENDED, state[1], after, *state[3:-1], 0)
