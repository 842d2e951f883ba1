"""The modes *sc* and *tso*; memory.py has the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.model.memory import Mem, Plan
from tests.model.ops import CHOOSE, FENCE, FENCE_LOADS, LOAD, RING, STORE, Op


def _with(row: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*row[:index], value, *row[index + 1 :])


class Sc:
    """Sequential consistency. A state is (values, bells rung, nothing)."""

    name = "sc"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._others = [
            [sum(1 << q for q in who if q != p) for p in range(plan.processes)]
            for who in plan.writers
        ]
        self._users = [
            [sum(1 << q for q in who if q != p) for p in range(plan.processes)]
            for who in plan.users
        ]

    def initial(self) -> Mem:
        return self._plan.values, (0,) * len(self._plan.bells), ()

    def step(self, mem: Mem, p: int, op: Op) -> Sequence[tuple[Any, Mem]]:
        values, bells, buffers = mem
        kind, place, value, _ = op
        if kind == LOAD:
            return ((values[place], mem),)
        if kind == STORE:
            return ((None, (_with(values, place, value), bells, buffers)),)
        if kind == RING and self._plan.bells[place] >= 0:
            return ((None, (values, _with(bells, place, 1), buffers)),)
        return [(choice, mem) for choice in range(value)] if kind == CHOOSE else ((None, mem),)

    def alone(self, mem: Mem, p: int, op: Op, live: int) -> bool:
        kind, place, _, _ = op
        if kind == LOAD:
            return not self._others[place][p] & live
        if kind == STORE:
            return not self._users[place][p] & live
        if kind == RING:
            return not live >> self._plan.bells[place] & 1
        return kind in (FENCE, FENCE_LOADS, CHOOSE)

    def drains(self, mem: Mem) -> Sequence[tuple[int, tuple[int, Any], Mem]]:
        return ()

    def heard(self, mem: Mem, p: int, bell: int) -> Mem | None:
        values, bells, buffers = mem
        return (values, _with(bells, bell, 0), buffers) if bells[bell] else None

    def met_end(self, mem: Mem, p: int, gone: int) -> Mem | None:
        return mem

    def retired(self, mem: Mem, p: int, *, died: bool) -> Mem:
        return mem

    def last(self, mem: Mem, place: int) -> Any:
        return mem[0][place]


class Tso(Sc):
    """x86. A state is (values, bells rung, buffers); a buffer holds (place, value).

    A ring stands in the buffer too, as place -1 - bell: it must not pass the stores
    before it, and that is all that is asked of it.
    """

    name = "tso"

    def initial(self) -> Mem:
        return *super().initial()[:2], ((),) * self._plan.processes

    def step(self, mem: Mem, p: int, op: Op) -> Sequence[tuple[Any, Mem]]:
        values, bells, buffers = mem
        kind, place, value, _ = op
        if kind == LOAD:
            for at, stored in reversed(buffers[p]):
                if at == place:
                    return ((stored, mem),)
            return ((values[place], mem),)
        if kind in (STORE, RING):
            entry = (place, value) if kind == STORE else (-1 - place, 1)
            return ((None, (values, bells, _with(buffers, p, (*buffers[p], entry)))),)
        if kind == FENCE and buffers[p]:
            return ()
        return [(choice, mem) for choice in range(value)] if kind == CHOOSE else ((None, mem),)

    def alone(self, mem: Mem, p: int, op: Op, live: int) -> bool:
        kind, place, _, _ = op
        if kind in (STORE, RING):
            return True
        if kind == FENCE:
            return not mem[2][p]
        # Not even a forwarded load is: the store may be performed first, and overwritten. And
        # who ended may have left stores behind.
        return super().alone(mem, p, op, live) and not (
            kind == LOAD and any(at == place for buffer in mem[2] for at, _ in buffer)
        )

    def drains(self, mem: Mem) -> Sequence[tuple[int, tuple[int, Any], Mem]]:
        values, bells, buffers = mem
        steps = []
        for p, buffer in enumerate(buffers):
            if buffer:
                place, value = buffer[0]
                now, rung = values, bells
                if place >= 0:
                    now = _with(values, place, value)
                elif self._plan.bells[-1 - place] >= 0:
                    rung = _with(bells, -1 - place, 1)
                steps.append((p, buffer[0], (now, rung, _with(buffers, p, buffer[1:]))))
        return steps

    def met_end(self, mem: Mem, p: int, gone: int) -> Mem | None:
        return None if mem[2][gone] else mem

    def last(self, mem: Mem, place: int) -> Any:
        for buffer in mem[2]:
            for at, stored in reversed(buffer):
                if at == place:
                    return stored
        return mem[0][place]
