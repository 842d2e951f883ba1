"""Ranks and slots change hands as the drawing in roster.py says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from aioshm import AdmissionRefused
from aioshm.ends.roster import Member, Roster
from aioshm.shm.doorbell import Doorbell

Join = Callable[..., Member]


@pytest.fixture
def roster() -> Roster:
    """Give a roster of three ranks and four slots."""
    return Roster([0, 1, 5], 4)


@pytest.fixture
def join(roster: Roster) -> Iterator[Join]:
    """Give a function that takes a rank, by a connection named after pid."""
    bell = Doorbell()

    def take(rank: int, pid: int) -> Member:
        return roster.join(rank, pid, f"connection of {pid}", bell)

    yield take
    bell.close()


def test_a_new_roster_misses_every_rank(roster: Roster) -> None:
    assert roster.missing() == [0, 1, 5]
    assert not roster.complete()


def test_it_is_complete_once_every_rank_was_taken(roster: Roster, join: Join) -> None:
    for pid, rank in enumerate((5, 0)):
        join(rank, pid)
    assert roster.missing() == [1]
    assert not roster.complete()
    join(1, 9)
    assert roster.missing() == []
    assert roster.complete()


def test_a_rank_that_left_does_not_undo_completeness(roster: Roster, join: Join) -> None:
    for rank in (0, 1, 5):
        join(rank, rank)
    roster.part("connection of 1", died=False)
    assert roster.complete()
    assert roster.missing() == []


def test_its_readers_are_told_by_rank_whoever_came_first(roster: Roster, join: Join) -> None:
    cursors = {join(rank, 10 + rank).slot: 64 * rank for rank in (5, 0, 1)}
    peers = [(peer.rank, peer.pid, peer.behind) for peer in roster.peers(cursors, 640)]
    assert peers == [(0, 10, 640), (1, 11, 576), (5, 15, 320)]


def test_every_member_has_a_slot_of_its_own(roster: Roster, join: Join) -> None:
    members = [join(rank, rank) for rank in (0, 1, 5)]
    assert len({member.slot for member in members}) == 3
    assert all(roster.slots[member.slot] is member for member in members)


def test_an_unknown_rank_is_refused_and_the_ranks_are_named(roster: Roster, join: Join) -> None:
    with pytest.raises(AdmissionRefused, match=r"no local rank 2.*\[0, 1, 5\]"):
        join(2, 1)
    assert roster.slots == {}


def test_a_taken_rank_is_refused_and_its_holder_named(roster: Roster, join: Join) -> None:
    first = join(0, 42)
    with pytest.raises(AdmissionRefused, match="rank 0 is taken by pid 42"):
        join(0, 43)
    assert roster.live == {0: first}


def test_a_goodbye_frees_the_rank(roster: Roster, join: Join) -> None:
    gone = join(0, 1)
    assert roster.part("connection of 1", died=False) is gone
    assert roster.live == {}
    assert roster.dead == {}
    join(0, 2)


def test_a_death_is_remembered_until_somebody_decides(roster: Roster, join: Join) -> None:
    for rank in (0, 1, 5):
        join(rank, rank)
    lost = roster.part("connection of 1", died=True)
    assert roster.dead == {1: lost}
    assert not roster.complete()


def test_evicting_a_dead_rank_decides(roster: Roster, join: Join) -> None:
    lost = join(0, 1)
    roster.part("connection of 1", died=True)
    assert roster.evict(0) is lost
    assert roster.dead == {}


def test_taking_a_dead_rank_again_decides(roster: Roster, join: Join) -> None:
    join(0, 1)
    roster.part("connection of 1", died=True)
    again = join(0, 2)
    assert roster.dead == {}
    assert roster.live == {0: again}


def test_a_refused_join_does_not_decide(roster: Roster, join: Join) -> None:
    lost = join(0, 1)
    roster.part("connection of 1", died=True)
    for pid in (2, 3, 4):  # the slots run out
        join(1, pid)
        roster.evict(1)
    with pytest.raises(AdmissionRefused):
        join(0, 5)
    assert roster.dead == {0: lost}


def test_evicting_frees_the_rank_but_not_the_slot(roster: Roster, join: Join) -> None:
    first = join(0, 1)
    assert roster.evict(0) is first
    second = join(0, 2)
    assert second.slot != first.slot
    assert roster.slots == {first.slot: first, second.slot: second}


def test_evicting_a_rank_that_nobody_has_gives_none(roster: Roster) -> None:
    assert roster.evict(0) is None


def test_an_evicted_reader_that_ends_takes_no_rank_along(roster: Roster, join: Join) -> None:
    join(0, 1)
    roster.evict(0)
    again = join(0, 2)
    assert roster.part("connection of 1", died=True) is None
    assert roster.live == {0: again}
    assert roster.dead == {}


def test_a_dead_readers_slot_is_kept_until_its_process_has_exited(
    roster: Roster, join: Join
) -> None:
    lost = join(0, 1)
    roster.part("connection of 1", died=True)
    assert join(0, 2).slot != lost.slot
    assert roster.slot_is_free("connection of 1") is lost
    assert join(1, 3).slot == lost.slot


def test_a_slot_is_taken_back_once_only(roster: Roster, join: Join) -> None:
    join(0, 1)
    roster.part("connection of 1", died=False)
    assert roster.slot_is_free("connection of 1") is not None
    assert roster.slot_is_free("connection of 1") is None
    assert len({join(rank, rank).slot for rank in (0, 1, 5)}) == 3


def test_without_a_free_slot_a_reader_is_refused_and_told_why(roster: Roster, join: Join) -> None:
    for pid in range(4):
        join(0, pid)
        roster.evict(0)
    with pytest.raises(AdmissionRefused, match="have not exited"):
        join(0, 4)
    roster.slot_is_free("connection of 2")
    assert join(0, 5).slot == 2


def test_a_dead_reader_whose_process_has_exited_has_no_slot(roster: Roster, join: Join) -> None:
    member = join(0, 100)
    roster.part(member.connection, died=True)
    assert roster.holds_slot(member)
    roster.slot_is_free(member.connection)
    assert not roster.holds_slot(member)
    assert join(1, 101).slot == member.slot
    assert not roster.holds_slot(member)
