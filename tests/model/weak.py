"""The mode *weak*: views over message histories; memory.py has the rules.

A state is one flat tuple of small numbers, each of which names an interned tuple::

    (history of each place ..., view of each bell ..., rel, cur, acq of each process ...,
     the fences' view)

A view gives for each place the index of the oldest message that may still be read. A
history is a tuple of (value, view). A bell's view is -1 while it is silent. What no
process can read any more is dropped and the indices move down, so that states which
differ in the past only are one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.model.memory import Mem, Plan
from tests.model.ops import (
    ACQUIRE,
    CHOOSE,
    FENCE,
    FENCE_LOADS,
    LOAD,
    RELEASE,
    RING,
    STORE,
    Op,
    Violation,
)

_LONGEST = 50
"""Messages that a place may hold for readers to come: no program here stores that many."""


class Interned:
    """Tuples by number, so that the states made of them are cheap to hash and compare."""

    def __init__(self) -> None:
        self.number: dict[tuple[Any, ...], int] = {}
        self.row: list[tuple[Any, ...]] = []

    def __call__(self, row: tuple[Any, ...]) -> int:
        found = self.number.get(row)
        if found is None:
            found = self.number[row] = len(self.row)
            self.row.append(row)
        return found


def _less(row: tuple[int, ...], base: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([max(0, index - low) for index, low in zip(row, base, strict=True)])


class Weak:
    """Views over message histories."""

    name = "weak"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._places = len(plan.values)
        self._bells = self._places + len(plan.bells)
        self._fences = self._bells + 3 * plan.processes
        self._views = Interned()
        self._histories = Interned()
        self._bottom = self._views((0,) * self._places)
        self._others = [
            [sum(1 << q for q in who if q != p) for p in range(plan.processes)]
            for who in plan.writers
        ]
        self._users = [tuple(p for p in range(plan.processes) if p in who) for who in plan.users]
        everyone = range(plan.processes)
        self._told = [tuple(any(q != p for q in who) for who in plan.loaders) for p in everyone]
        self._kept: dict[tuple[int, int], int] = {}
        self._joined: dict[tuple[int, int, int], int] = {}
        self._moved: dict[tuple[int, int, int], int] = {}
        self._lower: dict[tuple[int, ...], tuple[dict[int, int], dict[tuple[int, int], int]]] = {}

    def initial(self) -> Mem:
        values = self._plan.values
        histories = [self._histories(((value, self._bottom),)) for value in values]
        return (
            *histories,
            *[-1] * len(self._plan.bells),
            *[self._bottom] * (3 * self._plan.processes + 1),
        )

    # -- views ---------------------------------------------------------------------

    def _join(self, one: int, other: int, p: int) -> int:
        """Join two views, as far as p comes near the places."""
        if one == other:
            return one
        key = one, other, p
        found = self._joined.get(key)
        if found is None:
            rows, users = self._views.row, self._plan.users
            found = self._joined[key] = self._views(
                tuple(
                    max(mine, its) if p < 0 or p in users[place] else mine
                    for place, (mine, its) in enumerate(zip(rows[one], rows[other], strict=True))
                )
            )
        return found

    def _at(self, view: int, place: int, index: int) -> int:
        """Join a view with one message of one place."""
        key = view, place, index
        found = self._moved.get(key)
        if found is None:
            row = self._views.row[view]
            found = self._moved[key] = self._views(
                (*row[:place], max(row[place], index), *row[place + 1 :])
            )
        return found

    def _for_others(self, view: int, p: int) -> int:
        """What others could make of a view that p hands on."""
        key = view, p
        found = self._kept.get(key)
        if found is None:
            row = zip(self._views.row[view], self._told[p], strict=True)
            found = self._kept[key] = self._views(tuple([at if told else 0 for at, told in row]))
        return found

    # -- steps ---------------------------------------------------------------------

    def step(self, mem: Mem, p: int, op: Op) -> Sequence[tuple[Any, Mem]]:
        kind, place, value, order = op
        mine = self._bells + 3 * p
        rel, cur, acq = mem[mine : mine + 3]
        if kind == LOAD:
            history = self._histories.row[mem[place]]
            out = []
            for index in range(self._views.row[cur][place], len(history)):
                got, view = history[index]
                new_cur, new_acq = self._at(cur, place, index), self._at(acq, place, index)
                new_acq = self._join(new_acq, view, p)
                if order == ACQUIRE:
                    new_cur = self._join(new_cur, view, p)
                out.append((got, self._with_views(mem, p, rel, new_cur, new_acq)))
            return out
        if kind == STORE:
            return self._store(mem, p, op)
        if kind == FENCE_LOADS:
            return ((None, self._with_views(mem, p, rel, acq, acq)),)
        if kind == FENCE:
            everyone = mem[self._fences]
            cur = self._join(acq, everyone, p)
            rel = self._for_others(cur, p)
            new = [*mem[:mine], rel, cur, cur, *mem[mine + 3 :]]
            new[self._fences] = self._join(everyone, cur, -1)
            return ((None, self._collect(new)),)
        if kind == RING and self._plan.bells[place] >= 0:
            bell = self._places + place
            new = list(mem)
            cur = self._for_others(cur, p)
            new[bell] = cur if mem[bell] < 0 else self._join(mem[bell], cur, -1)
            return ((None, tuple(new)),)
        return [(choice, mem) for choice in range(value)] if kind == CHOOSE else ((None, mem),)

    def _store(self, mem: Mem, p: int, op: Op) -> Sequence[tuple[Any, Mem]]:
        _, place, value, order = op
        mine = self._bells + 3 * p
        rel, cur, acq = mem[mine : mine + 3]
        history = self._histories.row[mem[place]]
        if len(history) > _LONGEST:
            raise Violation(f"process {p} goes on storing for ever what nobody loads")
        out = []
        first = self._views.row[cur][place] + 1 if self._others[place][p] else len(history)
        for index in range(len(history), first - 1, -1):
            before = mem
            if index < len(history):
                before = self._make_way(mem, place, index)
                rel, cur, acq = before[mine : mine + 3]
                history = self._histories.row[before[place]]
            carried = self._for_others(cur, p) if order == RELEASE else rel
            carried = self._at(carried, place, index)
            new = list(before)
            new[place] = self._histories((*history[:index], (value, carried), *history[index:]))
            out.append((None, self._with_views(tuple(new), p, rel,
                        self._at(cur, place, index), self._at(acq, place, index))))  # fmt: skip
            rel, cur, acq = mem[mine : mine + 3]
            history = self._histories.row[mem[place]]
        return out

    def _make_way(self, mem: Mem, place: int, index: int) -> Mem:
        """Move what all views say of the messages from ``index`` on up by one."""

        def up(view: int) -> int:
            row = self._views.row[view]
            moved = row[place] + (row[place] >= index)
            return self._views((*row[:place], moved, *row[place + 1 :]))

        return self._map(mem, up)

    def _map(self, mem: Sequence[int], change: Callable[[int], int]) -> Mem:
        histories = self._histories
        return (
            *(
                histories(tuple([(value, change(view)) for value, view in histories.row[number]]))
                for number in mem[: self._places]
            ),
            *(view if view < 0 else change(view) for view in mem[self._places :]),
        )

    def _with_views(self, mem: Mem, p: int, rel: int, cur: int, acq: int) -> Mem:
        mine = self._bells + 3 * p
        if mem[mine : mine + 3] == (rel, cur, acq):
            return mem
        return self._collect((*mem[:mine], rel, cur, acq, *mem[mine + 3 :]))

    def _collect(self, mem: Sequence[int]) -> Mem:
        """Drop the messages that nobody can read any more."""
        rows = self._views.row
        curs = [
            None if mem[mine] < 0 else rows[mem[mine + 1]]
            for mine in range(self._bells, self._fences, 3)
        ]
        base = []
        for place, users in enumerate(self._users):
            low = -1
            for p in users:
                row = curs[p]
                if row is not None and (low < 0 or row[place] < low):
                    low = row[place]
                    if not low:
                        break
            base.append(len(self._histories.row[mem[place]]) - 1 if low < 0 else low)
        if not any(base):
            return tuple(mem)
        return self._lowered(tuple(mem), tuple(base))

    def _lowered(self, mem: Mem, base: tuple[int, ...]) -> Mem:
        """Take as many messages from the beginning of each history."""
        known = self._lower.get(base)
        if known is None:
            known = self._lower[base] = {}, {}
        views, histories = known
        places, view_rows, history_rows = self._places, self._views.row, self._histories.row
        new = []
        for place in range(places):
            key = place, mem[place]
            number = histories.get(key)
            if number is None:
                number = histories[key] = self._histories(
                    tuple([
                        (value, self._views(_less(view_rows[view], base)))
                        for value, view in history_rows[mem[place]][base[place] :]
                    ])
                )  # fmt: skip
            new.append(number)
        for view in mem[places:]:
            if view >= 0:
                lower = views.get(view)
                if lower is None:
                    lower = views[view] = self._views(_less(view_rows[view], base))
                view = lower
            new.append(view)
        return tuple(new)

    # -- what else there is ----------------------------------------------------------

    def alone(self, mem: Mem, p: int, op: Op, live: int) -> bool:
        kind, place, _, _ = op
        if kind == LOAD:
            if self._others[place][p] & live:
                return False
            cur = self._views.row[mem[self._bells + 3 * p + 1]]
            return bool(cur[place] == len(self._histories.row[mem[place]]) - 1)
        if kind == RING:
            return not live >> self._plan.bells[place] & 1
        # A store takes nothing away from anybody: old messages stay readable.
        return kind in (STORE, FENCE_LOADS, CHOOSE)

    def drains(self, mem: Mem) -> Sequence[tuple[int, tuple[int, Any], Mem]]:
        return ()

    def heard(self, mem: Mem, p: int, bell: int) -> Mem | None:
        view = mem[self._places + bell]
        if view < 0:
            return None
        new = self._acquired(mem, p, view)
        at = self._places + bell
        return (*new[:at], -1, *new[at + 1 :])

    def met_end(self, mem: Mem, p: int, gone: int) -> Mem | None:
        return self._acquired(mem, p, mem[self._bells + 3 * gone + 1])

    def _acquired(self, mem: Mem, p: int, view: int) -> Mem:
        mine = self._bells + 3 * p
        rel, cur, acq = mem[mine : mine + 3]
        return self._with_views(mem, p, rel, self._join(cur, view, p), self._join(acq, view, p))

    def retired(self, mem: Mem, p: int, *, died: bool) -> Mem:
        mine = self._bells + 3 * p
        cur = mem[mine + 1] if died else self._bottom
        return self._collect((*mem[:mine], -1, cur, -1, *mem[mine + 3 :]))

    def last(self, mem: Mem, place: int) -> Any:
        return self._histories.row[mem[place]][-1][0]
