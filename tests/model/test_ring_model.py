"""The real ring and the real waiting, on every schedule within the bounds, in each mode.

What must hold on each: every reader gets all that was written, in order and bit for bit,
up to the close, the writer's death or its own eviction; nobody writes over what a live
reader has not read; an evicted reader never returns overwritten bytes; nobody sleeps
while there is something to do (no timer ever fires here); everybody comes to an end.
"""

from __future__ import annotations

import time

import pytest

from tests.model.code import Code
from tests.model.conftest import Record
from tests.model.explore import Report, explore, shortest, wander
from tests.model.modular import Modular
from tests.model.ops import Violation
from tests.model.scenario import MODES, Scenario, Setting
from tests.model.trace import render

FOUR = (32,) * 4
# The bounds that a commit must pass: one writer, a ring of two records.
BOTH = Scenario("2 readers, 4 messages, cancel, death", 2, FOUR, cancels=1, deaths=1)
FAR = Scenario("1 reader, 9 messages, ring of 8: woken at a quarter", 1, (32,) * 9, chunks=8)
ONE = [
    Scenario("1 reader, 4 messages", sizes=FOUR),
    Scenario("1 reader, 3 messages, cancel, death", cancels=1, deaths=1),
    Scenario("enqueue and dequeue, 2 messages, cancel, death", sizes=(32, 32), style="whole",
             cancels=1, deaths=1),
    Scenario("enqueue and dequeue, 3 messages", style="whole"),
    Scenario("leases, 3 messages, cancel", style="lease", cancels=1),
    Scenario("padding at the wrap", sizes=(32, 96, 96, 32), slot=128),
    Scenario("3 messages, each 16 bytes apart", block=16, watched=False),
    Scenario("3 messages, eviction at any point", evicts=(0,), block=16, watched=False),
    Scenario("3 messages, a scribbled cursor", scribbles=(64, 128), watched=False),
]  # fmt: skip
DEEPER = [
    Scenario("1 reader, 6 messages", sizes=(32,) * 6),
    Scenario("1 reader, 4 messages, 2 cancels, death", sizes=FOUR, cancels=2, deaths=1),
    Scenario("enqueue and dequeue, 4 messages, cancel, death", sizes=FOUR, style="whole",
             cancels=1, deaths=1),
    Scenario("4 messages, eviction at any point", sizes=FOUR, evicts=(0,), block=16,
             watched=False),
    Scenario("4 messages, a scribbled cursor", sizes=FOUR, scribbles=(64, 128, 192),
             watched=False),
]  # fmt: skip
DEEPER_BOTH = [
    Scenario("2 readers, 5 messages, cancel", 2, (32,) * 5, cancels=1),
    Scenario("2 readers, 5 messages, death", 2, (32,) * 5, deaths=1),
    Scenario("2 readers, 4 messages, ring of 3", 2, FOUR, chunks=3, cancels=1, deaths=1),
    Scenario("2 readers, padding at the wrap", 2, (32, 96, 96, 32), slot=128, deaths=1),
    Scenario("3 readers, 3 messages", 3, (32,) * 3),
]
WANDER = [
    Scenario("3 readers, 8 messages", 3, (32, 96, 32, 32, 96, 96, 32, 32), slot=128,
             style="whole", cancels=4, deaths=2),
    Scenario("2 readers, 6 messages, eviction, leases", 2, (32,) * 6, style="lease",
             block=16, evicts=(0,), watched=False, cancels=2),
]  # fmt: skip

every_mode = pytest.mark.parametrize("mode", MODES)


def named(scenario: Scenario) -> str:
    """A parameter's name in pytest's output."""
    return scenario.name.replace(" ", "-").replace(",", "")


@pytest.fixture(scope="module")
def code() -> Code:
    """The code as it is."""
    return Code()


def assert_well(setting: Setting, report: Report) -> None:
    if report.violation:
        found = shortest(setting)
        found = found if found.violation else report
        trace = render(setting, found.trace)
        pytest.fail(f"{setting.mode}, {setting.scenario.name}: {found.violation}\n{trace}", False)


def go_through(scenario: Scenario, mode: str, code: Code, record: Record) -> None:
    start = time.monotonic()
    setting = Setting(scenario, mode, code)
    report = explore(setting)
    assert_well(setting, report)
    spent = time.monotonic() - start
    record("explored", scenario.name, mode, report.states, report.steps, report.schedules, spent)


def go_through_both(scenario: Scenario, mode: str, code: Code, record: Record) -> None:
    start = time.monotonic()
    setting = Setting(scenario, mode, code)
    search = Modular(setting)
    try:
        search.run()
    except Violation as found:
        report = shortest(setting)
        shown = render(setting, report.trace) if report.violation else "(no short schedule)"
        pytest.fail(f"{mode}, {scenario.name}: {found.what}\n{report.violation}\n{shown}", False)
    extent, spent = search.extent(), time.monotonic() - start
    name = "explored, two readers and more"
    record(name, scenario.name, mode, extent.spots, extent.states, extent.products, spent)


@every_mode
@pytest.mark.parametrize("scenario", ONE, ids=named)
def test_one_reader_on_every_schedule(
    scenario: Scenario, mode: str, code: Code, record: Record
) -> None:
    go_through(scenario, mode, code, record)


@every_mode
@pytest.mark.parametrize("scenario", [BOTH, FAR], ids=named)
@pytest.mark.timeout(600)
def test_two_readers_on_every_schedule(
    scenario: Scenario, mode: str, code: Code, record: Record
) -> None:
    go_through_both(scenario, mode, code, record)


@every_mode
@pytest.mark.parametrize("scenario", WANDER, ids=named)
@pytest.mark.timeout(3600)
def test_more_on_random_schedules(
    scenario: Scenario, mode: str, code: Code, record: Record, long: bool
) -> None:
    start = time.monotonic()
    setting = Setting(scenario, mode, code)
    report = wander(setting, seed=7, runs=20_000 if long else 400)
    assert_well(setting, report)
    spent = time.monotonic() - start
    record("wandered", scenario.name, mode, report.states, report.steps, report.schedules, spent)


@every_mode
@pytest.mark.timeout(7200)
def test_deeper_if_asked_to(mode: str, code: Code, record: Record, long: bool) -> None:
    if not long:
        return
    for scenario in DEEPER:
        go_through(scenario, mode, code, record)
    for scenario in DEEPER_BOTH:
        go_through_both(scenario, mode, code, record)
