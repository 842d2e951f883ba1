"""What is explored: who takes part, what may happen to them, and what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aioshm.shm.layout import Layout
from tests.model.code import Code
from tests.model.dynamics import Dynamics, State
from tests.model.ledger import Archive, Ledger, word
from tests.model.memory import Memory, Plan
from tests.model.ops import DONE, Op
from tests.model.process import Process
from tests.model.programs import (
    BROKEN,
    CLOSED,
    DIED,
    EVICTED,
    RESTS,
    Reader,
    Scribbler,
    World,
    Writer,
)
from tests.model.simulated import OUTSIDE, Places
from tests.model.strong import Sc, Tso
from tests.model.weak import Weak

MODES: dict[str, type[Sc | Weak]] = {"sc": Sc, "tso": Tso, "weak": Weak}


@dataclass(frozen=True)
class Scenario:
    """One situation.

    Args:
        name: for reports.
        readers: how many readers.
        sizes: bytes of each message's payload.
        slot, chunks: the ring: bytes of a slot and their number.
        block: bytes of a record that are copied in one piece.
        style: how the programs call the ends: "core", "whole" or "lease".
        cancels, deaths: how many of each may happen, at any point and to anybody.
        evicts: slots that the writer may evict at any moment.
        scribbles: cursors that another process may store for slot 0 at any moment.
        numbered: count parks and bells, at the price of many more states.
        watched: let the ledger watch the records, instead of exploring each access.
    """

    name: str
    readers: int = 1
    sizes: tuple[int, ...] = (32, 32, 32)
    slot: int = 64
    chunks: int = 2
    block: int = 32
    style: str = "core"
    cancels: int = 0
    deaths: int = 0
    evicts: tuple[int, ...] = ()
    scribbles: tuple[int, ...] = ()
    numbered: bool = False
    watched: bool = True

    def but(self, **changes: Any) -> Scenario:
        """The same with changes."""
        return replace(self, **changes)

    def ends(self) -> list[int]:
        """The position after each message, and 0 before the first."""
        capacity, ends = self.slot * self.chunks, [0]
        for nbytes in self.sizes:
            size, left = (nbytes + 95) & -64, -ends[-1] % capacity or capacity
            ends.append(ends[-1] + size + (left if size > left else 0))
        return ends


class Setting:
    """A scenario in a mode, with the code that runs in it.

    Args:
        scenario: the situation.
        mode: the memory.
        code: the code.
    """

    def __init__(self, scenario: Scenario, mode: str, code: Code) -> None:
        self.scenario, self.mode = scenario, mode
        self._layout = Layout(scenario.slot - 32, scenario.slot, scenario.chunks, scenario.readers)
        self.places = places = Places(self._layout, scenario.block)
        values: list[Any] = [0] * len(places.names)
        for place in places.blocks:
            values[place] = bytes(scenario.block)

        def set_up(op: Op) -> None:
            values[op[1]] = op[2]

        OUTSIDE.ask, OUTSIDE.ledger = set_up, None
        world, archive = World(code, places, scenario.sizes), Archive()
        writer = Writer(
            world, scenario.readers, scenario.style, scenario.evicts, not scenario.scribbles,
            scenario.numbered,
        )  # fmt: skip
        takes = {place: slot for slot, place in enumerate(places.read)}
        self.names = ["writer"]
        self.processes = [Process(writer, self._ledger(writer, archive, places.written, takes))]
        for slot in range(scenario.readers):
            expected: tuple[str, ...] = (BROKEN,) if scenario.scribbles else ()
            expected += (EVICTED,) if slot in scenario.evicts else ()
            reader = Reader(world, slot, scenario.style, expected, scenario.numbered)
            ledger = self._ledger(reader, archive, places.read[slot], {places.written: slot})
            self.names.append(f"reader {slot}")
            self.processes.append(Process(reader, ledger))
        if scenario.scribbles:
            self.names.append("scribbler")
            self.processes.append(Process(Scribbler(world, 0, scenario.scribbles)))
        self._values = tuple(values[: places.ordered] if scenario.watched else values)
        self.memory = self._memory(self._values, scenario.readers)

    def _ledger(
        self, program: Writer | Reader, archive: Archive, gives: int, takes: dict[int, int]
    ) -> Ledger | None:
        if not self.scenario.watched:
            return None
        block, capacity = self.scenario.block, self._layout.capacity
        return Ledger(
            program.end._ring, archive, self.mode != "weak", block, capacity, gives, takes
        )

    def _memory(self, values: tuple[Any, ...], readers: int) -> Memory:
        """The memory as the writer, the first readers and a scribbler share it.

        Slots beyond those readers are the writer's alone.
        """
        places, scribbles = self.places, bool(self.scenario.scribbles)
        everyone, writer = frozenset(range(1 + readers)), frozenset([0])
        writers, users = [writer] * len(values), [everyone] * len(values)
        for slot in range(self.scenario.readers):
            reader = frozenset([1 + slot] if slot < readers else [])
            scribbler = frozenset([1 + readers] if scribbles and not slot else [])
            for place, stores, uses in (
                (places.parked[slot], writer | reader, writer | reader),
                (places.read[slot], reader | scribbler, writer | reader | scribbler),
                (places.evicted[slot], writer, writer | reader),
            ):
                if place < len(values):
                    writers[place], users[place] = stores, uses
        # Who alone stores to a place, and never loads it, knows its order anyhow.
        loaders = [
            who - stores if len(stores) == 1 else who
            for who, stores in zip(users, writers, strict=True)
        ]
        return MODES[self.mode](
            Plan(
                values=values,
                processes=1 + readers + scribbles,
                bells=(*sorted(everyone), -1),
                writers=tuple(writers),
                users=tuple(users),
                loaders=tuple(loaders),
            )
        )

    def dynamics(self, *, reduced: bool = True) -> Dynamics:
        """The rules by which all processes go on together."""
        return Dynamics(self.memory, self.names, reduced=reduced)

    def pair(self) -> Dynamics:
        """The rules by which the writer and reader 0 go on, as if there were no other.

        One place of another slot is kept, for what the writer stores there.
        """
        places = self.places.parked[1] + 1 if self.scenario.readers > 1 else self.places.ordered
        return Dynamics(self._memory(self._values[:places], 1), self.names[:2])

    def initial(self) -> State:
        """The state before anything happened."""
        nodes = [process.first for process in self.processes]
        return (*nodes, self.memory.initial(), self.scenario.cancels, self.scenario.deaths, 0)

    def judge(self, memory: Memory, mem: Any, nodes: Sequence[Any]) -> str:
        """Say what is wrong with a state in which nothing can happen; empty if nothing is.

        Args:
            memory: the mode.
            mem: the state of the memory.
            nodes: the node of each process, None for the dead: the writer, then readers.
        """
        places, scenario = self.places, self.scenario

        def last(place: int) -> int:
            return word(memory.last(mem, place))

        ends = [
            "" if node is None else node.op[2] if node.op[0] == DONE else None for node in nodes
        ]
        written = last(places.written)
        published = scenario.ends().index(written)
        asleep = []
        for p, (name, how) in enumerate(zip(self.names, ends, strict=False)):
            if how is None:
                idle = p and ends[0] == RESTS and last(places.read[p - 1]) == written
                if not idle or (not scenario.watched and last(places.evicted[p - 1])):
                    asleep.append(name)
            elif p == 0 and how and how != BROKEN and published != len(scenario.sizes):
                return f"the writer ends ({how}) after {published} messages"
            elif p and how.startswith((CLOSED, DIED)) and how.split()[-1] != str(published):
                return f"{name} ends: {how} messages of {published}"
        # A cursor that was set back looks like a reader that does not read. A waiting reader
        # repeats its own by the timer, and no timer fires here.
        if not asleep or scenario.scribbles:
            return ""
        words = (places.written, places.closed, *places.read[: len(nodes) - 1])
        held = ", ".join(f"{places.names[place]} = {last(place)}" for place in words)
        return f"lost wake-up: {' and '.join(asleep)} would wait for ever, with {held}"
