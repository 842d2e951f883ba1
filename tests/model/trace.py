"""A schedule as text: one column for each process, one line for each step.

Stores read ``word := value``, loads ``word -> value``. In the mode tso a store is first
executed and some time later performed, which is a line of its own; in the mode weak a
load may give an old value.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tests.model.dynamics import Step
from tests.model.ledger import word
from tests.model.ops import (
    ACQUIRE,
    CHOOSE,
    FENCE,
    FENCE_LOADS,
    LOAD,
    PARK,
    RELEASE,
    RING,
    STORE,
    TURN,
    Op,
    event_name,
)
from tests.model.scenario import Setting

_WIDTH = 34
_FIXED = {FENCE: "fence", FENCE_LOADS: "fence_loads"}


def _value(value: object) -> str:
    if isinstance(value, bytes):
        return f"{value[:4].hex(' ')} .."
    return str(word(value)) if isinstance(value, int) else str(value)


def _line(setting: Setting, op: Op, result: object) -> str:
    kind, place, value, order = op
    if kind == STORE:
        release = " (release)" if order == RELEASE else ""
        return f"{setting.places.names[place]} := {_value(value)}{release}"
    if kind == LOAD:
        acquire = " (acquire)" if order == ACQUIRE else ""
        return f"{setting.places.names[place]} -> {_value(result)}{acquire}"
    if kind == RING:
        return f"rings the bell of {setting.names[place]}"
    if kind in (PARK, TURN):
        assert isinstance(result, int)
        return f"{'sleeps' if kind == PARK else 'yields'}, {event_name(result)}"
    if kind == CHOOSE:
        return f"takes choice {result}"
    return _FIXED[kind]


def _performed(setting: Setting, place: int, value: object) -> str:
    what = f"{setting.places.names[place]} := {_value(value)}" if place >= 0 else "the ring"
    return f"({what} is performed)"


def render(setting: Setting, steps: Sequence[Step]) -> str:
    """Draw a schedule.

    Args:
        setting: where it happened.
        steps: its steps.
    """
    columns = len(setting.names)
    rows = ["".join(name.ljust(_WIDTH) for name in setting.names).rstrip()]
    rows.append("─" * (_WIDTH * columns - 2))
    for p, op, result in steps:
        if op is not None:
            text = _line(setting, op, result)
        else:
            text = "(dies)" if result is None else _performed(setting, *result)
        parts = textwrap.wrap(text, _WIDTH - 2, subsequent_indent="  ")
        rows.extend((" " * (_WIDTH * p) + part).rstrip() for part in parts)
    return "\n".join(rows)
