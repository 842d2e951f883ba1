"""A doorbell is heard once however often it rang, and by whoever holds its descriptor."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from aioshm.shm.doorbell import Doorbell
from tests.helpers import descriptors


@pytest.fixture
def bell() -> Iterator[Doorbell]:
    """Give a new bell."""
    made = Doorbell()
    yield made
    made.close()


def readable(bell: Doorbell) -> bool:
    """Tell whether a loop would hear the bell now."""
    return bool(select.select([bell], [], [], 0)[0])


def test_a_new_bell_is_silent(bell: Doorbell) -> None:
    assert not readable(bell)
    assert not bell.clear()


def test_a_ring_stays_until_it_is_heard(bell: Doorbell) -> None:
    bell.ring()
    assert readable(bell)
    assert readable(bell)


def test_a_hundred_rings_are_heard_as_one(bell: Doorbell) -> None:
    for _ in range(100):
        bell.ring()
    assert bell.clear()
    assert not bell.clear()
    assert not readable(bell)


def test_a_bell_that_was_heard_rings_again(bell: Doorbell) -> None:
    bell.ring()
    bell.clear()
    bell.ring()
    assert bell.clear()


def test_a_bell_at_the_end_of_its_counter_takes_another_ring(bell: Doorbell) -> None:
    os.eventfd_write(bell.fileno(), 2**64 - 2)
    bell.ring()
    assert bell.clear()
    assert not readable(bell)


def test_a_bell_with_an_adopted_descriptor_is_the_same_bell(bell: Doorbell) -> None:
    other = Doorbell(os.dup(bell.fileno()))
    bell.ring()
    assert other.clear()
    assert not bell.clear()
    other.close()


def test_an_adopted_descriptor_is_closed_with_the_bell() -> None:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    Doorbell(fd).close()
    assert str(fd) not in descriptors()


def test_a_bell_does_not_reach_a_program_that_is_started(bell: Doorbell) -> None:
    assert not os.get_inheritable(bell.fileno())


def test_a_closed_bell_is_silent_and_says_so(bell: Doorbell) -> None:
    bell.ring()
    bell.close()
    bell.ring()
    assert not bell.clear()
    assert bell.fileno() == -1


def test_closing_twice_closes_nobody_elses_descriptor(bell: Doorbell) -> None:
    number = bell.fileno()
    bell.close()
    taken = os.open("/dev/null", os.O_RDONLY)
    assert taken == number  # the kernel gives the lowest free number
    bell.close()
    os.fstat(taken)
    os.close(taken)
