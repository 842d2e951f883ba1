"""What can happen next: every process at every point, the memory, cancels and deaths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.model.memory import Mem, Memory
from tests.model.ops import (
    BELL,
    BELL_CANCEL,
    CANCEL,
    DONE,
    FAIL,
    GO,
    GONE,
    OUTER,
    PARK,
    RING,
    STORE,
    TURN,
    Op,
    Violation,
)
from tests.model.process import Node
from tests.model.programs import BROKEN, EVICTED

Step = tuple[int, Op | None, Any]
"""(process, its operation, the result). Without an operation: the store that was performed,
as (place, value), or None if the process died."""
Path = tuple[Any, Step] | None
"""Steps, the last one first."""
State = tuple[Any, ...]
"""(node of each process or None if it died ..., memory, cancels left, deaths left, news)

The news are a set of bits: p * processes + q, p will hear from its link that q is gone.
"""


class Dynamics:
    """The rules by which some processes go on together.

    Two things keep the number of states down. A step that commutes with all that others
    can do (`Memory.alone`) is taken at once, as is what follows it, and no state is kept
    in between. And a process may die only where it is about to do something that others
    could see, since a death anywhere before looks the same to them.

    Args:
        memory: the memory they share.
        names: what to call them; process 0 is the writer.
        reduced: take steps that need no schedule at once.
    """

    def __init__(self, memory: Memory, names: list[str], *, reduced: bool = True) -> None:
        self._reduced = reduced
        self.memory, self.names = memory, names
        self.count = len(names)
        self.steps = 0

    def settle(self, path: Path, state: State) -> list[tuple[Path, State]]:
        """Take all steps that need no schedule."""
        if not self._reduced:
            return [(path, state)]
        todo, settled = [(path, state)], []
        memory, n = self.memory, self.count
        while todo:
            path, state = todo.pop()
            live, mem = self.live(state), state[n]
            for p in range(n):
                node = state[p]
                if node is not None and node.op[0] < PARK and memory.alone(mem, p, node.op, live):
                    for result, after in memory.step(mem, p, node.op):
                        todo += self.arrive(path, state, p, result, after, state[-3], state[-1])
                    break
            else:
                settled.append((path, state))
        return settled

    def live(self, state: State) -> int:
        """The processes that may still make an access, as bits."""
        live = 0
        for p in range(self.count):
            node = state[p]
            if node is not None and node.op[0] != DONE:
                live |= 1 << p
        return live

    def arrive(
        self, path: Path, state: State, p: int, result: Any, mem: Mem, cancels: int, news: int
    ) -> list[tuple[Path, State]]:
        """Give a process its result; where it may die next, it lives and it dies."""
        self.steps += 1
        n = self.count
        path = (path, (p, state[p].op, result))
        child: Node = state[p].child(result)
        kind, _, value, _ = child.op
        deaths = state[-2]
        if kind == FAIL:
            raise Violation(f"{self.names[p]}: {value}", path)
        if kind == DONE:
            mem = self.memory.retired(mem, p, died=False)
            if p and value.startswith((EVICTED, BROKEN)):
                news |= self.news(state, p)
        out: list[Any] = [
            (path, (*state[:p], child, *state[p + 1 : n], mem, cancels, deaths, news))
        ]
        if deaths and kind in (RING, PARK, STORE):
            mem = self.memory.retired(mem, p, died=True)
            news |= self.news(state, p)
            died = (*state[:p], None, *state[p + 1 : n], mem, cancels, deaths - 1, news)
            out.append(((path, (p, None, None)), died))
        return out

    def news(self, state: State, p: int) -> int:
        """p is gone: all readers hear of the writer, the writer of a reader."""
        live = self.live(state)
        hear = range(1, self.count) if p == 0 else (0,)
        return sum(1 << q * self.count + p for q in hear if live >> q & 1)

    def successors(self, state: State) -> Iterator[tuple[Path, State]]:
        """All that can happen next."""
        n = self.count
        mem, cancels, news = state[n], state[-3], state[-1]
        for p in range(n):
            node = state[p]
            if node is None or node.op[0] >= DONE:
                continue
            if node.op[0] >= PARK:
                for event, after, left, rest in self.events(node.op, mem, p, cancels, news):
                    for path, new in self.arrive(None, state, p, event, after, left, rest):
                        yield from self.settle(path, new)
                continue
            for result, after in self.memory.step(mem, p, node.op):
                for path, new in self.arrive(None, state, p, result, after, cancels, news):
                    yield from self.settle(path, new)
        for p, performed, after in self.memory.drains(mem):
            if state[p] is None or state[p].op[0] != OUTER:
                self.steps += 1
                step = (None, (p, None, performed))
                yield from self.settle(step, (*state[:n], after, *state[n + 1 :]))

    def events(
        self, op: Op, mem: Mem, p: int, cancels: int, news: int
    ) -> Iterator[tuple[int, Mem, int, int]]:
        """What can end a park or come in a turn: event, memory, cancels left, news left."""
        if op[0] == TURN:
            yield GO, mem, cancels, news
        heard = self.memory.heard(mem, p, p)
        if heard is not None:
            yield BELL, heard, cancels, news
        for q in range(self.count):
            bit = 1 << p * self.count + q
            if news & bit:
                met = self.memory.met_end(mem, p, q)
                if met is not None:
                    yield GONE + q, met, cancels, news & ~bit
        if cancels:
            yield CANCEL, mem, cancels - 1, news
            if heard is not None:
                yield BELL_CANCEL, heard, cancels - 1, news

    def stuck(self, state: State) -> bool:
        """Tell whether nothing can happen but a cancel, which nobody owes anybody."""
        if not all(node is None or node.op[0] >= PARK for node in state[: self.count]):
            return False
        if state[-3]:
            state = (*state[:-3], 0, *state[-2:])
        return not any(True for _ in self.successors(state))
