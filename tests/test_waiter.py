"""A task that waits parks, wakes by its bell, and keeps its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aioshm import Backoff
from aioshm.waiting import Waiter, turn
from tests.helpers import HANG
from tests.lines import Late, Line, end

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """Give a line that parks at once."""
    made = Line()
    yield made
    end(made)


# -- one task --------------------------------------------------------------------------


async def test_what_is_there_is_taken_without_a_turn_of_the_loop(line: Line) -> None:
    line.put(1)
    turned = asyncio.get_running_loop().call_soon(lambda: line.put(99))
    assert await line.get() == 1
    assert not line.messages
    turned.cancel()


async def test_what_comes_while_it_yields_is_taken_without_parking() -> None:
    line = Line(Backoff(yield_for=HANG))
    waiting = line.task()
    for _ in range(10):
        await asyncio.sleep(0)
    line.put(1)
    assert await waiting == 1
    assert (line.waiter.parks, line.parking.arms) == (0, 0)
    end(line)


async def test_while_it_yields_every_other_task_gets_its_turns() -> None:
    line = Line(Backoff(yield_for=HANG))
    turns = 0

    async def work() -> None:
        nonlocal turns
        for _ in range(100):
            turns += 1
            await asyncio.sleep(0)
        line.put(1)

    asyncio.get_running_loop().create_task(work())
    assert await line.get() == 1
    assert turns == 100
    assert line.attempts >= 50
    end(line)


async def test_a_parked_head_is_woken_by_the_bell(line: Line) -> None:
    waiting = line.task()
    await line.until_parked()
    line.put(1)
    assert await waiting == 1
    counts = line.waiter
    assert (counts.parks, counts.wakeups, counts.bells, counts.rescues) == (1, 1, 1, 0)


async def test_while_it_is_parked_it_does_nothing(line: Line) -> None:
    waiting = line.task()
    await line.until_parked()
    attempts = line.attempts
    for _ in range(50):
        await asyncio.sleep(0)
    assert line.attempts == attempts
    line.put(1)
    await waiting


async def test_a_second_look_that_finds_something_spares_the_sleep(line: Line) -> None:
    def message_came_in_between() -> bool:
        line.messages.append(1)
        return True

    line.parking.second_look = message_came_in_between
    assert await line.get() == 1
    assert (line.parking.arms, line.waiter.parks) == (1, 0)


async def test_a_spurious_ring_makes_it_look_and_park_again(line: Line) -> None:
    waiting = line.task()
    for parks in (1, 2, 3):
        await line.until_parked(parks)
        line.parking.armed = False
        line.bell.ring()
    await line.until_parked(4)
    line.put(1)
    assert await waiting == 1
    assert line.parking.arms == 4
    assert line.waiter.rescues == 0


async def test_a_notice_wakes_it_without_a_bell(line: Line) -> None:
    waiting = line.task()
    await line.until_parked()
    line.messages.append(1)
    line.waiter.notify()
    assert await waiting == 1
    assert line.waiter.bells == 0


async def test_a_bell_and_a_notice_in_one_turn_wake_it_once(line: Line) -> None:
    waiting = line.task()
    await line.until_parked()
    line.put(1)
    line.waiter.notify()
    line.waiter.notify()
    assert await waiting == 1
    assert line.waiter.wakeups == 1


async def test_a_notice_to_nobody_is_no_error(line: Line) -> None:
    line.waiter.notify()
    line.put(1)
    assert await line.get() == 1


async def test_what_an_attempt_raises_ends_the_wait(line: Line) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await line.waiter.wait(fail, None, line.late)


async def test_a_waiter_that_stops_looks_once_more_and_listens_no_longer(line: Line) -> None:
    waiting = line.task()
    await line.until_parked()
    line.messages.append(1)
    line.waiter.stop()
    assert not line.parking.armed
    assert await waiting == 1
    line.bell.ring()
    await asyncio.sleep(0)
    assert line.waiter.bells == 0


async def test_a_waiter_that_was_not_started_waits_by_its_timer() -> None:
    waiter = Waiter(Backoff(yield_for=0.0, min_sleep=1e-3))
    found = iter([None, None, None, None, 5])
    assert await waiter.wait(lambda: next(found), None, lambda waited, over: None) == 5
    assert waiter.parks > 0


async def test_a_turn_lets_whatever_is_ready_run_once() -> None:
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    assert ran == []
    await turn()
    assert ran == [1]


# -- time ------------------------------------------------------------------------------


async def test_a_timeout_of_0_tries_once(line: Line) -> None:
    with pytest.raises(Late):
        await line.get(timeout=0)
    assert line.attempts == 1
    assert line.waiter.parks == 0


async def test_a_timeout_of_0_takes_what_is_there(line: Line) -> None:
    line.put(1)
    assert await line.get(timeout=0) == 1


async def test_at_the_end_of_the_time_it_gives_up(line: Line) -> None:
    with pytest.raises(Late) as caught:
        await line.get(timeout=0.02)
    assert caught.value.args[0] >= 0.02
    line.put(1)
    assert await line.get() == 1


async def test_at_the_end_of_the_time_it_looks_once_more(line: Line) -> None:
    def message_comes_without_a_bell() -> bool:
        line.messages.append(1)
        return False

    line.parking.second_look = message_comes_without_a_bell
    assert await line.get(timeout=0.02) == 1
    assert line.waiter.parks == 1


async def test_after_each_sleep_it_tells_how_long_it_has_waited() -> None:
    line = Line(Backoff(yield_for=0.0, min_sleep=2e-3, max_sleep=2e-3))
    waiting = line.task()
    await line.until(lambda: len(line.looks) >= 3)
    line.messages.append(1)
    assert await waiting == 1
    assert line.looks == sorted(line.looks)
    assert line.looks[0] > 0
    end(line)


async def test_no_sleep_is_so_short_that_it_spins() -> None:
    line = Line(Backoff(yield_for=0.0, min_sleep=1e-6, max_sleep=1e-6, doorbell=False))
    with pytest.raises(Late):
        await line.get(timeout=0.02)
    assert line.waiter.parks <= 40  # 20 or so; thousands if it spun
    end(line)


async def test_without_the_doorbell_it_never_arms_and_the_timer_finds_all() -> None:
    line = Line(Backoff(yield_for=0.0, min_sleep=1e-3, max_sleep=1e-3, doorbell=False))
    waiting = line.task()
    line.parking.due = True
    await line.until(lambda: line.waiter.parks >= 3)
    line.messages.append(1)
    assert await waiting == 1
    assert line.parking.arms == 0
    assert (line.waiter.bells, line.waiter.rescues) == (0, 0)
    end(line)


# -- rescues ---------------------------------------------------------------------------


@pytest.mark.parametrize("due", [True, False], ids=["due", "not due"])
async def test_a_rescue_is_what_the_timer_finds_while_a_bell_is_due(due: bool) -> None:
    line = Line(Backoff(yield_for=0.0, min_sleep=5e-3))
    waiting = line.task()
    await line.until_parked()
    line.messages.append(1)  # and no bell
    line.parking.due = due
    assert await waiting == 1
    assert line.waiter.rescues == int(due)
    end(line)


async def test_a_bell_that_was_heard_is_no_rescue(line: Line) -> None:
    waiting = line.task(timeout=HANG)
    await line.until_parked()
    line.parking.due = True
    line.put(1)
    assert await waiting == 1
    assert line.waiter.rescues == 0


async def test_a_flag_that_is_lowered_in_the_last_turn_is_no_rescue() -> None:
    line = Line(Backoff(yield_for=0.0, min_sleep=5e-3))
    waiting = line.task()
    await line.until_parked()
    line.messages.append(1)
    line.parking.due = True

    def lowered_meanwhile() -> None:
        asyncio.get_running_loop().call_soon(setattr, line.parking, "due", False)

    line.parking.overdue_look = lowered_meanwhile
    assert await waiting == 1
    assert line.waiter.rescues == 0
    end(line)


async def test_what_the_callers_own_deadline_finds_is_no_rescue(line: Line) -> None:
    waiting = line.task(timeout=5e-3)
    await line.until_parked()
    line.messages.append(1)  # stored by a process that is preempted before it rings
    line.parking.due = True
    assert await waiting == 1
    assert line.waiter.rescues == 0
