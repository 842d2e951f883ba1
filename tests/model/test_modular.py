"""The search for several readers checked against the plain one, where that can finish."""

from __future__ import annotations

import pytest

from tests.model.code import Code
from tests.model.explore import reached
from tests.model.modular import Modular
from tests.model.scenario import MODES, Scenario, Setting

TWO = Scenario("2 readers, 1 message", 2, (32,))
ONE = Scenario("1 reader, 3 messages", 1, (32, 32, 32), cancels=1, deaths=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", [TWO, ONE], ids=lambda scenario: scenario.name)
@pytest.mark.timeout(600)
def test_reaches_all_that_the_plain_search_reaches(scenario: Scenario, mode: str) -> None:
    assert_reaches_all(scenario, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.timeout(3600)
def test_reaches_all_of_more_if_asked_to(mode: str, long: bool) -> None:
    scenario = TWO.but(cancels=1, deaths=1) if long else TWO.but(readers=1, cancels=1, deaths=1)
    assert_reaches_all(scenario, mode)


def assert_reaches_all(scenario: Scenario, mode: str) -> None:
    setting = Setting(scenario, mode, Code())
    plain = {state[:2] for state in reached(setting)}
    search = Modular(setting)
    search.run()
    states = search.pair.states
    modular = {
        (spot.node, states[number][1]) for spot in search.spots.values() for number in spot.known[0]
    }
    assert len(plain) > 100
    assert plain <= modular
