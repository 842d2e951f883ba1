"""Waiting sleeps as it was told to, wakes by the bell, and keeps its line in order."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from aioshm import Backoff
from aioshm.waiting import Pace

# -- Backoff ---------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    backoff = Backoff()
    assert backoff == Backoff(yield_for=100e-6, min_sleep=None, max_sleep=1.0, doorbell=True)


FIRST = [
    (Backoff(), 0.1),
    (Backoff(doorbell=False), 1e-3),
    (Backoff(max_sleep=0.01), 0.01),
    (Backoff(max_sleep=1e-4, doorbell=False), 1e-4),
    (Backoff(min_sleep=0.5), 0.5),
    (Backoff(min_sleep=0.5, doorbell=False), 0.5),
]

WRONG: list[dict[str, Any]] = [
    {"yield_for": -1e-9},
    {"yield_for": math.nan},
    {"max_sleep": 0.0},
    {"max_sleep": -1.0},
    {"max_sleep": math.nan},
    {"min_sleep": 0.0},
    {"min_sleep": -0.1},
    {"min_sleep": math.nan},
    {"min_sleep": 1.1},
    {"min_sleep": 0.2, "max_sleep": 0.1},
]

RIGHT: list[dict[str, Any]] = [
    {"yield_for": 0.0},
    {"yield_for": 3.0, "min_sleep": 0.1, "max_sleep": 0.1, "doorbell": False},
    {"min_sleep": 1.0},
    {"yield_for": math.inf},
    {"max_sleep": 1e-6},
]


def test_the_first_sleep_is_long_only_where_the_bell_cuts_it_short() -> None:
    assert [backoff.first_sleep for backoff, _ in FIRST] == [first for _, first in FIRST]


def test_times_that_cannot_be_meant_are_refused() -> None:
    for wrong in WRONG:
        with pytest.raises(ValueError, match="sleep"):
            Backoff(**wrong)


def test_times_at_the_edge_are_taken() -> None:
    for right in RIGHT:
        backoff = Backoff(**right)
        assert all(getattr(backoff, name) == value for name, value in right.items())


def test_a_backoff_travels_to_other_processes() -> None:
    backoff = Backoff(yield_for=0.5, min_sleep=0.1, max_sleep=0.2, doorbell=False)
    assert pickle.loads(pickle.dumps(backoff)) == backoff


def test_a_backoff_cannot_be_changed_behind_the_queues_back() -> None:
    with pytest.raises(AttributeError):
        Backoff().max_sleep = 2.0  # type: ignore[misc]


# -- Pace ------------------------------------------------------------------------------

SLEEPS: list[tuple[Backoff, str, list[float]]] = [
    # backoff, what happens, the sleeps that are asked for
    (Backoff(min_sleep=1, max_sleep=8), "sssss", [1, 2, 4, 8, 8]),
    (Backoff(min_sleep=3, max_sleep=8), "ssss", [3, 6, 8, 8]),
    (Backoff(min_sleep=2, max_sleep=2), "sss", [2, 2, 2]),
    (Backoff(min_sleep=1, max_sleep=8), "ss+ss+s", [1, 2, 1, 2, 1]),
    (Backoff(min_sleep=1, max_sleep=8), "ssfsps", [1, 2, 4, 1]),
    (Backoff(doorbell=False), "ss" + "s" * 10, [1e-3 * 2**n for n in range(10)] + [1.0, 1.0]),
    (Backoff(), "sssss+s", [0.1, 0.2, 0.4, 0.8, 1.0, 0.1]),
]


def play(pace: Pace, story: str) -> list[float]:
    """Play a story: sleep, success (+), a yield that paid or failed; give the sleeps."""
    sleeps = []
    for event in story:
        if event == "s":
            sleeps.append(pace.next_sleep())
        elif event == "+":
            pace.succeeded()
        elif event == "p":
            pace.yielding_paid()
        else:
            pace.yielding_failed()
    return sleeps


def test_sleeps_double_up_to_the_longest_and_a_success_resets_them() -> None:
    for backoff, story, sleeps in SLEEPS:
        assert play(Pace(backoff), story) == pytest.approx(sleeps), story


def test_yields_are_allowed_in_full_at_first() -> None:
    assert Pace(Backoff(yield_for=0.5)).begin() == 0.5


ALLOWED = {"f": 4, "ff": 2, "fff": 1, "p": 8, "pp": 8, "ffp": 4, "ffpp": 8, "fffs+": 1}


def test_yields_halve_while_they_fail_and_double_while_they_pay() -> None:
    for story, allowed in ALLOWED.items():
        pace = Pace(Backoff(yield_for=8.0))
        play(pace, story)
        assert pace.begin() == allowed, story


def test_yields_that_went_down_to_nothing_grow_back_while_they_pay() -> None:
    pace = Pace(Backoff(yield_for=1e-4))
    play(pace, "f" * 2000)
    assert pace.begin() < 1e-9
    play(pace, "p" * 20)
    assert pace.begin() == 1e-4


def test_without_yields_none_are_ever_allowed() -> None:
    pace = Pace(Backoff(yield_for=0.0))
    for story in ("p", "f", "ppp"):
        play(pace, story)
        assert pace.begin() == 0.0


def test_a_pace_that_keeps_failing_probes_in_full_now_and_then() -> None:
    pace = Pace(Backoff(yield_for=1.0))
    allowed = []
    for _ in range(64):
        allowed.append(pace.begin())
        pace.yielding_failed()
    probes = allowed[1:].count(1.0)
    assert 1 <= probes <= 8


def test_paces_of_one_backoff_share_nothing() -> None:
    backoff = Backoff(min_sleep=1, max_sleep=8)
    one, other = Pace(backoff), Pace(backoff)
    play(one, "ssf")
    assert play(other, "s") == [1]
    assert other.begin() == backoff.yield_for
