"""Several readers at the price of one: exploring what the writer sees.

Theory of operation
-------------------
Readers never speak to each other. Two of them can be in the midst of something in all
combinations, and a search over the states of all processes together visits each one:
two readers and two messages make a hundred thousand already.

But given what the writer did and saw, what one reader may be doing does not depend on
the other. So this search goes from *spot* to spot, a spot being a place in the life of
the writer, and keeps for each spot and each reader a set: the states the reader may be
in meanwhile, with the memory between it and the writer (pair.py). The states of the
whole are among the products of the sets. What the writer loads from one reader's words
splits that reader's set; the others pass whole.

That leaves nothing out, and adds a little: a spot forgets how the writer got there, so
states of two readers can meet in it that belong to different pasts. A property that
holds here holds; a violation found here may be nobody's, and the plain search has to
show it. Four more things are shared by all processes and need a word:

* The writer's bell: each pair has one of its own; the writer hears all of them at once.
* The writer's store buffer (tso) is part of the spot, and drains for all in one step.
* The view of all full fences (weak): each pair has its own, so that a fence of one
  reader orders nothing for another. That only adds behaviours.
* Cancels and deaths: what the writer uses up is gone for each reader, and what a reader
  used up for the writer, but not for the other readers: with one of each, two readers
  may be cancelled once each, and die.

An end of everything shows as usual: a spot in which the writer sleeps, and for each
reader a state that cannot wake it. Schedules that go round for ever do not, since
different pasts meet. Instead it is checked that each reader comes to rest if the writer
does, and that the writer does: to go round it must hear a bell again and again, and a
reader rings at most once for each message it reads, of which there are so many
(programs.py sees to the latter). The spots count the bells since the last message, and
so are finitely many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from tests.model.ops import (
    BELL,
    BELL_CANCEL,
    CANCEL,
    DONE,
    FAIL,
    FENCE,
    FENCE_LOADS,
    GO,
    GONE,
    LOAD,
    PARK,
    RING,
    STORE,
    TURN,
    Violation,
)
from tests.model.pair import Pair
from tests.model.process import Node
from tests.model.scenario import Setting

_ALONE = {
    "sc": (FENCE, FENCE_LOADS),
    "tso": (STORE, RING, FENCE_LOADS),
    "weak": (STORE, FENCE_LOADS),
}
"""Operations of the writer that commute with all that readers can do (`Memory.alone`)."""

_RANG, _GONE = range(2)
Label = tuple[int, Any]


class Spot:
    """A place in the life of the writer, and what each reader may be doing meanwhile.

    Attributes:
        node: the writer's node; None if it died.
        cancels, deaths: what may still happen to it.
        bells: how often it heard each reader since it last wrote a message.
        known, fresh: for each reader its states, those that were dealt with and others.
        labels: what the writer may see here, and which reader's doing that is.
    """

    __slots__ = ("bells", "cancels", "deaths", "fresh", "known", "labels", "node", "queued")

    def __init__(
        self, node: Node | None, cancels: int, deaths: int, bells: tuple[int, ...]
    ) -> None:
        self.node, self.cancels, self.deaths, self.bells = node, cancels, deaths, bells
        self.known: list[set[int]] = [set() for _ in bells]
        self.fresh: list[set[int]] = [set() for _ in bells]
        self.labels: set[Label] = set()
        self.queued = False


@dataclass
class Extent:
    """How much was explored.

    Attributes:
        spots: places in the life of the writer.
        states: states of one reader and the memory between it and the writer.
        members: states in spots.
        products: states of all processes together that these stand for.
        steps: steps of a reader or the writer that were worked out.
    """

    spots: int
    states: int
    members: int
    products: int
    steps: int


class Modular:
    """The search.

    Args:
        setting: what is explored.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        scenario, places = setting.scenario, setting.places
        self._slots = range(scenario.readers)
        self.pair = Pair(setting)
        self._owner = {places.read[slot]: slot for slot in self._slots}
        self._owner |= {places.parked[slot]: slot for slot in self._slots}
        self._alone = _ALONE[setting.mode]
        self.spots: dict[Any, Spot] = {}
        self._todo: list[Spot] = []
        start = Spot(setting.processes[0].first, scenario.cancels, scenario.deaths, self._none)
        for slot in self._slots:
            assert start.node is not None
            self._go(start, start.node, slot, self.pair.first)

    @property
    def _none(self) -> tuple[int, ...]:
        return (0,) * len(self._slots)

    def run(self) -> None:
        """Go on until nothing new can be, then look for violations.

        Raises:
            Violation: a violation, by nobody's schedule in particular.
        """
        while self._todo:
            spot = self._todo.pop()
            spot.queued = False
            for slot in self._slots:
                fresh, spot.fresh[slot] = spot.fresh[slot], set()
                fresh -= spot.known[slot]
                if fresh:
                    self.pair.close(fresh, spot.known[slot])
                    spot.known[slot] |= fresh
                    if spot.node is not None:
                        self._move(spot, spot.node, slot, fresh)
        for (_, buffer, *_), spot in self.spots.items():
            self._judge(spot, buffer)

    def extent(self) -> Extent:
        """How much was explored."""
        sizes = [[len(known) for known in spot.known] for spot in self.spots.values()]
        return Extent(
            spots=len(sizes),
            states=len(self.pair.states),
            members=sum(map(sum, sizes)),
            products=sum(map(prod, sizes)),
            steps=self.pair.dynamics.steps,
        )

    # -- the writer's steps ------------------------------------------------------------------

    def _put(
        self, node: Node | None, spot: Spot, cancels: int, bells: tuple[int, ...], slot: int,
        numbers: Iterable[int],
    ) -> None:  # fmt: skip
        """Let a reader be in these states while the writer is there."""
        parts: dict[Any, Iterable[int]] = {(): numbers}
        if self.setting.mode == "tso" and node is not None:
            parts = {}
            for number in numbers:
                parts.setdefault(self.pair.buffer(number), []).append(number)  # type: ignore[attr-defined]
        for buffer, part in parts.items():
            deaths = 0 if node is None else spot.deaths
            key = node, buffer, cancels, deaths, bells
            there = self.spots.get(key)
            if there is None:
                there = self.spots[key] = Spot(node, cancels, deaths, bells)
            there.fresh[slot].update(part)
            if not there.queued:
                there.queued = True
                self._todo.append(there)

    def _move(self, spot: Spot, node: Node, slot: int, numbers: set[int]) -> None:
        """Let the writer take its next step, a reader being in one of these states."""
        kind, place, _, _ = node.op
        if kind == DONE:
            return
        if kind >= PARK:
            self._wake(spot, node, slot, numbers)
        elif kind == LOAD and self._owner.get(place, 0) != slot:
            for _, result in spot.labels:
                self._go(spot, node.child(result), slot, numbers)
        else:
            op = self.pair.seen_from(slot, node.op)
            results: dict[Any, list[int]] = {}
            if op is None:
                results[None] = list(numbers)
            else:
                table = self.pair.stepped(op)
                for number in numbers:
                    for result, after in table[number]:
                        results.setdefault(result, []).extend(after)
            wrote = kind == STORE and place == self.setting.places.written
            for result, reached in results.items():
                self._go(spot, node.child(result), slot, reached, wrote=wrote)
                if kind == LOAD:
                    self._show(spot, node, (slot, result))
        drained = self.pair.drained
        performed = [after for number in numbers for after in drained[number]]
        if performed:
            self._put(node, spot, spot.cancels, spot.bells, slot, performed)

    def _show(self, spot: Spot, node: Node, label: Label) -> None:
        """A reader lets the writer see something: the others may be anywhere meanwhile."""
        if label in spot.labels:
            return
        spot.labels.add(label)
        for other in self._slots:
            if other != label[0]:
                if node.op[0] == LOAD:
                    self._go(spot, node.child(label[1]), other, spot.known[other])
                else:
                    self._woken(spot, node, label, other, spot.known[other])

    def _wake(self, spot: Spot, node: Node, slot: int, numbers: set[int]) -> None:
        if node.op[0] == TURN:
            self._go(spot, node.child(GO), slot, numbers)
        if spot.cancels:
            self._cancel(spot, node.child(CANCEL), slot, numbers)
        for label in list(spot.labels):
            if label[0] != slot:
                self._woken(spot, node, label, slot, numbers)
        heard, met_end = self.pair.heard, self.pair.met_end
        rang = [number for number in numbers if heard[number]]
        if rang:
            self._woken(spot, node, (slot, _RANG), slot, rang)
            self._show(spot, node, (slot, _RANG))
        gone = [after for number in numbers for after in met_end[number]]
        if gone:
            self._woken(spot, node, (slot, _GONE), slot, gone)
            self._show(spot, node, (slot, _GONE))

    def _woken(
        self, spot: Spot, node: Node, label: Label, slot: int, numbers: Iterable[int]
    ) -> None:
        whose, what = label
        if what == _GONE:
            self._go(spot, node.child(GONE + 1 + whose), slot, numbers)
            return
        heard = self.pair.heard
        after = [new for number in numbers for new in heard[number] or (number,)]
        self._go(spot, node.child(BELL), slot, after, bell=whose)
        if spot.cancels:
            self._cancel(spot, node.child(BELL_CANCEL), slot, after, bell=whose)

    def _cancel(
        self, spot: Spot, node: Node, slot: int, numbers: Iterable[int], bell: int | None = None
    ) -> None:
        cancelled = self.pair.cancelled
        left = [after for number in numbers for after in cancelled[number]]
        if left:
            self._go(spot, node, slot, left, bell=bell, cancelled=True)

    def _go(
        self, spot: Spot, node: Node, slot: int, numbers: Iterable[int], *,
        bell: int | None = None, cancelled: bool = False, wrote: bool = False,
    ) -> None:  # fmt: skip
        """The writer comes from a spot to a node, and goes on while it is alone."""
        pair, bells = self.pair, self._none if wrote else spot.bells
        cancels = spot.cancels - cancelled
        if bell is not None:
            bells = (*bells[:bell], bells[bell] + 1, *bells[bell + 1 :])
        while True:
            kind, place, value, _ = node.op
            if kind == FAIL:
                raise Violation(f"{self.setting.names[0]}: {value}")
            if spot.deaths and kind in (RING, PARK, STORE):
                died = pair.died
                dead = [after for number in numbers for after in died[number]]
                self._put(None, spot, cancels, self._none, slot, dead)
            if kind not in self._alone:
                break
            op = pair.seen_from(slot, node.op)
            if op is not None:
                table = pair.stepped(op)
                numbers = [new for number in numbers for _, after in table[number] for new in after]
            if kind == STORE and place == self.setting.places.written:
                bells = self._none
            node = node.child(None)
        if kind == DONE:
            ended = pair.ended
            numbers = [after for number in numbers for after in ended[number]]
        self._put(node, spot, cancels, bells, slot, numbers)

    # -- the properties ------------------------------------------------------------------------

    def _judge(self, spot: Spot, buffer: Any) -> None:
        node, pair = spot.node, self.pair
        if node is not None and node.op[0] == PARK and not buffer:
            quiet = [next(filter(pair.quiet.__getitem__, known), None) for known in spot.known]
            if None not in quiet:
                raise Violation("lost wake-up: the writer and all readers wait for ever")
        for slot, known in enumerate(spot.known):
            if not pair.comes_to_rest(known):
                raise Violation(f"reader {slot} goes round for ever")
            if node is not None and node.op[0] != DONE:
                continue
            for number in filter(pair.quiet.__getitem__, known):
                state = pair.states[number]
                wrong = self.setting.judge(pair.dynamics.memory, state[2], (node, state[1]))
                if wrong:
                    raise Violation(wrong)
