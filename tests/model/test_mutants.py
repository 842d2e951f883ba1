"""Every line that orders something is needed: without it, a schedule shows what breaks.

Each mutant is explored in all modes and must violate a property in just the modes that
the table names: a fence is missed only where the memory lags, a look everywhere. With
``-rP`` pytest prints the schedules, a column for each process.
"""

from __future__ import annotations

import pytest

from tests.model.code import Code
from tests.model.conftest import Record
from tests.model.explore import explore, shortest
from tests.model.modular import Modular
from tests.model.mutants import MUTANTS, PLAIN, SHORT, Edit, Mutant
from tests.model.ops import Violation
from tests.model.scenario import MODES, Setting
from tests.model.trace import render


def named(mutant: Mutant) -> str:
    """A parameter's name in pytest's output."""
    return f"{mutant.tag}-{mutant.what}".replace(" ", "-").replace(",", "")


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_dies_where_it_must(mutant: Mutant, record: Record) -> None:
    code = mutant.code()
    found = {}
    for mode in MODES:
        violation = explore(Setting(mutant.scenario, mode, code)).violation
        if violation:
            found[mode] = violation
    assert " ".join(found) == mutant.dies, found
    because = next(iter(found.values()))
    record("mutants", mutant.tag, mutant.what, mutant.dies, mutant.scenario.name, because[:90])


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_its_trace_shows_what_breaks(mutant: Mutant) -> None:
    setting = Setting(mutant.scenario, mutant.dies.split()[0], mutant.code())
    report = explore(setting)
    short = shortest(setting)
    report = short if short.violation else report
    shown = render(setting, report.trace)
    print(f"{shown}\n{report.violation}")
    columns = shown.splitlines()
    assert columns[0].split()[:2] == ["writer", "reader"]
    assert len(columns) > 4, report.violation


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.scenario in (PLAIN, SHORT)], ids=named
)
def test_dies_with_two_readers_as_well(mutant: Mutant) -> None:
    scenario = mutant.scenario.but(readers=2)
    with pytest.raises(Violation):
        Modular(Setting(scenario, mutant.dies.split()[0], mutant.code())).run()


def test_all_that_is_tagged_has_a_mutant() -> None:
    tagged = {mutant.tag for mutant in MUTANTS}
    assert tagged == {"PUBLISH", "FREE", "PARK-READER", "PARK-WRITER", "EVICT"}
    assert len(set(map(named, MUTANTS))) == len(MUTANTS)


def test_a_mutant_of_code_that_went_away_fails() -> None:
    gone = Edit("aioshm.waiting", "Waiter._park", "no such text", "")
    twice = Edit("aioshm.waiting", "Waiter._park", "self", "")
    for edit in (gone, twice):
        with pytest.raises(AssertionError, match="times, not once"):
            Mutant("PUBLISH", "nothing", (edit,)).code()


def test_a_changed_text_is_what_runs() -> None:
    edit = Edit("aioshm.shm.ring_writer", "RingWriter.close", "store(", "raise KeyError(")
    changed = Mutant("PUBLISH", "nothing", (edit,)).code()
    source = changed["aioshm.shm.ring_writer"].RingWriter.close.__code__.co_names
    assert "KeyError" in source
    assert "KeyError" not in Code()["aioshm.shm.ring_writer"].RingWriter.close.__code__.co_names
