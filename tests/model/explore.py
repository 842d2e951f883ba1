"""The plain search: all schedules of a setting, or many random ones."""

from __future__ import annotations

import gc
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.model.dynamics import Dynamics, Path, State, Step
from tests.model.ops import Violation
from tests.model.scenario import Setting


@dataclass
class Report:
    """What an exploration came to.

    Attributes:
        states: states visited, not counting those in which only one thing can happen.
        steps: steps taken.
        schedules: different schedules from beginning to end that these make.
        violation: what was found; empty if all is well.
        trace: the schedule that leads there.
    """

    states: int = 0
    steps: int = 0
    schedules: int = 0
    violation: str = ""
    trace: list[Step] = field(default_factory=list)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the cycle collector away from millions of tuples that form no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def check(setting: Setting, dynamics: Dynamics, state: State) -> None:
    """Judge a state if nothing can happen in it."""
    if not dynamics.stuck(state):
        return
    nodes, mem = state[: dynamics.count], state[dynamics.count]
    wrong = setting.judge(dynamics.memory, mem, nodes)
    if wrong:
        raise Violation(wrong)


def reached(setting: Setting) -> set[State]:
    """All states in which more than one thing can happen, as `explore` visits them."""
    dynamics = setting.dynamics()
    todo = [state for _, state in dynamics.settle(None, setting.initial())]
    found = set(todo)
    with uncollected():
        for state in todo:
            new = {after for _, after in dynamics.successors(state)} - found
            found |= new
            todo += new
    return found


def explore(setting: Setting, *, reduced: bool = True) -> Report:
    """Go through all schedules, depth first; stop at the first violation.

    Args:
        setting: what is explored.
        reduced: take steps that need no schedule at once (see `Dynamics`).
    """
    dynamics = setting.dynamics(reduced=reduced)
    report = Report()
    counts: dict[State, int] = {}
    stack: list[tuple[State, Iterator[tuple[Path, State]], Path, list[int]]] = []
    try:
        with uncollected():
            stack.append(((), iter(dynamics.settle(None, setting.initial())), None, [0]))
            while stack:
                state, following, _, total = stack[-1]
                for path, new in following:
                    known = counts.get(new)
                    if known is None:
                        counts[new] = -1
                        stack.append((new, dynamics.successors(new), path, [0]))
                        check(setting, dynamics, new)
                        break
                    if known < 0:
                        raise Violation("a schedule goes round for ever", path)
                    total[0] += known
                else:
                    stack.pop()
                    report.schedules = total[0]
                    if stack:
                        counts[state] = max(1, total[0])
                        stack[-1][3][0] += counts[state]
    except Violation as found:
        report.violation = found.what
        report.trace = [step for entry in stack for step in steps_of(entry[2])]
        report.trace += steps_of(found.path)
    report.states, report.steps = len(counts), dynamics.steps
    return report


def shortest(setting: Setting, limit: int = 100_000) -> Report:
    """Look for a violation breadth first, so that the schedule shown is a short one."""
    dynamics = setting.dynamics()
    report = Report()
    before: dict[State, tuple[State | None, Path]] = {}
    todo: deque[State] = deque()
    state: State | None = None
    try:
        with uncollected():
            options = dynamics.settle(None, setting.initial())
            while True:
                for path, new in options:
                    if new not in before:
                        before[new] = state, path
                        todo.append(new)
                if not todo or len(before) > limit:
                    break
                state = todo.popleft()
                check(setting, dynamics, state)
                options = list(dynamics.successors(state))
    except Violation as found:
        report.violation = found.what
        trail = [found.path]
        while state is not None:
            state, path = before[state]
            trail.append(path)
        report.trace = [step for path in reversed(trail) for step in steps_of(path)]
    report.states, report.steps = len(before), dynamics.steps
    return report


def wander(setting: Setting, seed: int, runs: int) -> Report:
    """Go along random schedules; the same ones for the same seed."""
    dynamics = setting.dynamics()
    rng = random.Random(seed)
    report = Report()
    states: set[State] = set()
    with uncollected():
        for _ in range(runs):
            trail: list[Path] = []
            try:
                options = dynamics.settle(None, setting.initial())
                while options:
                    path, state = rng.choice(options)
                    trail.append(path)
                    states.add(state)
                    check(setting, dynamics, state)
                    options = list(dynamics.successors(state))
            except Violation as found:
                report.violation = found.what
                report.trace = [step for path in (*trail, found.path) for step in steps_of(path)]
                break
            report.schedules += 1
    report.states, report.steps = len(states), dynamics.steps
    return report


def steps_of(path: Path) -> list[Step]:
    """The steps of a path, the first one first."""
    steps = []
    while path is not None:
        path, step = path
        steps.append(step)
    return steps[::-1]
