"""A writer's patience: whose time is over, told nothing but cursors and times."""

from __future__ import annotations

import math

import pytest

from aioshm import Backoff
from aioshm.ends.patience import Patience, Warnings, slowest
from aioshm.ends.stats import PeerStats


def test_a_reader_that_does_not_move_has_its_time_and_no_more() -> None:
    patience = Patience(4.0)
    assert [patience.lost_with(float(now), {0: 64}) for now in range(10, 14)] == [[]] * 4
    assert patience.lost_with(14.0, {0: 64}) == [0]


def test_a_reader_that_moves_starts_anew() -> None:
    patience = Patience(4.0)
    for now in range(100):
        assert patience.lost_with(float(now), {0: now // 4 * 64}) == []


def test_each_reader_has_a_time_of_its_own() -> None:
    patience = Patience(4.0)
    lost = [patience.lost_with(0.0, {0: 64})]
    lost += [patience.lost_with(now, {0: 64, 1: 64}) for now in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert lost == [[], [], [], [], [0], [0, 1]]


def test_a_reader_that_makes_room_is_forgotten() -> None:
    patience = Patience(4.0)
    for now in (0.0, 1.0, 2.0, 3.0):
        assert patience.lost_with(now, {0: 64}) == []
    assert patience.lost_with(4.0, {}) == []
    assert [patience.lost_with(now, {0: 64}) for now in (5.0, 6.0, 7.0, 8.0)] == [[]] * 4
    assert patience.lost_with(9.0, {0: 64}) == [0]


def test_a_pause_of_the_writer_itself_counts_for_half_at_most() -> None:
    patience = Patience(4.0)
    assert patience.lost_with(0.0, {0: 64}) == []
    assert patience.lost_with(1e6, {0: 64}) == []
    assert patience.lost_with(1e6 + 1.9, {0: 64}) == []
    assert patience.lost_with(1e6 + 2.0, {0: 64}) == [0]


def test_the_first_look_counts_nothing_whatever_the_clock_says() -> None:
    for now in (0.0, 1e9):
        patience = Patience(1.0)
        assert patience.lost_with(now, {0: 0}) == []
        assert patience.lost_with(now + 0.4, {0: 0}) == []


def test_endless_patience_ends_never() -> None:
    patience = Patience(math.inf)
    assert [patience.lost_with(now, {0: 64}) for now in (0.0, 1e9, 1e18)] == [[]] * 3
    assert patience.looks_often(Backoff()) == Backoff(min_sleep=0.1)


@pytest.mark.parametrize("doorbell", [True, False])
def test_no_sleep_is_longer_than_a_quarter(doorbell: bool) -> None:
    for seconds in (0.01, 1.0, 100.0):
        backoff = Patience(seconds).looks_often(Backoff(doorbell=doorbell, yield_for=0.5))
        assert backoff.max_sleep == min(1.0, seconds / 4)
        assert backoff.first_sleep == min(0.1 if doorbell else 1e-3, seconds / 4)
        assert (backoff.doorbell, backoff.yield_for) == (doorbell, 0.5)


def test_a_wait_is_warned_of_each_time_that_long() -> None:
    warnings = Warnings(10.0)
    waits = [1.0, 9.9, 10.5, 11.0, 20.0, 20.5, 25.0, 31.0]
    assert [warnings.due(waited) for waited in waits] == [
        False, False, True, False, False, True, False, True,
    ]  # fmt: skip
    assert [warnings.due(waited) for waited in (1.0, 10.0, 12.0)] == [False, True, False]


def test_the_slowest_are_named_first_and_not_all_of_many() -> None:
    peers = [PeerStats(rank, 1000 + rank, 0, 64 * rank) for rank in range(20)]
    said = slowest(peers)
    assert said.startswith("rank 19 (pid 1019) is 1216 bytes behind, rank 18 ")
    assert said.count("rank") == 8
