"""Tasks that wait at one end stand in line, and whoever leaves hands it to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.helpers import HANG
from tests.lines import Late, Line, end

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """Give a line that parks at once."""
    made = Line()
    yield made
    end(made)


# -- the line --------------------------------------------------------------------------


async def test_first_come_first_served(line: Line) -> None:
    tasks = [line.task() for _ in range(5)]
    for message in range(5):
        await line.until_parked(message + 1)
        line.put(message)
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]


async def test_messages_that_come_at_once_go_down_the_line(line: Line) -> None:
    tasks = [line.task() for _ in range(5)]
    await line.until_parked()
    for message in range(5):
        line.put(message)
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]


async def test_only_the_head_parks(line: Line) -> None:
    tasks = [line.task() for _ in range(5)]
    await line.until_parked()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (line.parking.arms, line.waiter.parks, line.waiter.length) == (1, 1, 5)
    for message in range(5):
        line.put(message)
    await asyncio.gather(*tasks)


async def test_the_next_in_line_tries_before_it_parks(line: Line) -> None:
    first, second = line.task(), line.task()
    await line.until_parked()
    line.messages.extend([1, 2])
    line.bell.ring()
    assert [await first, await second] == [1, 2]
    assert line.parking.arms == 1


async def test_a_late_comer_does_not_overtake(line: Line) -> None:
    first, second = line.task(), line.task()
    await line.until_parked()
    line.put(1)
    await first
    third = line.task()
    line.put(2)
    line.put(3)
    assert [await second, await third] == [2, 3]


async def test_a_timeout_in_line_leaves_the_line_in_order(line: Line) -> None:
    first = line.task()
    await line.until_parked()
    hasty, last = line.task(timeout=0.01), line.task()
    with pytest.raises(Late):
        await hasty
    line.put(1)
    line.put(2)
    assert [await first, await last] == [1, 2]


async def test_a_timeout_at_the_head_hands_the_line_on(line: Line) -> None:
    hasty, last = line.task(timeout=0.01), line.task()
    with pytest.raises(Late):
        await hasty
    await line.until_parked(2)
    line.put(1)
    assert await last == 1


@pytest.mark.parametrize("place", [0, 1, 2], ids=["head", "second", "third"])
async def test_a_cancel_at_any_turn_hands_the_line_on_and_takes_nothing(place: int) -> None:
    for turns in range(14):
        line = Line()
        tasks = [line.task() for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[place].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[place]
        del tasks[place]
        for message in (1, 2):
            line.put(message)
        async with asyncio.timeout(HANG):
            assert await asyncio.gather(*tasks) == [1, 2]
        end(line)


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_cancel_in_the_tick_of_the_message_loses_nothing(cancel_first: bool) -> None:
    fired = 0
    for _ in range(20):
        line = Line()
        first, second = line.task(), line.task()
        await line.until_parked()
        sleeper = line.waiter._sleeper
        assert sleeper is not None

        def both(_: object, line: Line = line, task: asyncio.Task[int] = first) -> None:
            nonlocal fired
            fired += 1
            if cancel_first:
                task.cancel()
            line.put(1)
            line.waiter.notify()
            task.cancel()

        asyncio.get_running_loop().call_soon(both, None)
        await asyncio.wait([first])
        if first.cancelled():
            assert await second == 1
        else:
            assert first.result() == 1
            line.put(2)
            assert await second == 2
        end(line)
    assert fired == 20


# -- holding the head --------------------------------------------------------------------


async def test_who_holds_the_head_keeps_the_others_waiting(line: Line) -> None:
    line.put(1)
    assert await asyncio.create_task(line.get(hold=True)) == 1
    line.put(2)
    second = line.task()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    assert line.waiter.length == 2
    line.waiter.leave()
    assert await second == 2


async def test_who_holds_the_head_cannot_wait_for_itself(line: Line) -> None:
    line.put(1)
    await line.get(hold=True)
    with pytest.raises(RuntimeError, match="leave the lease's block first"):
        await line.get()
    line.waiter.leave()
    line.put(2)
    assert await line.get() == 2


async def test_while_another_holds_the_head_a_timeout_still_ends_the_wait(line: Line) -> None:
    line.put(1)
    await asyncio.create_task(line.get(hold=True))
    with pytest.raises(Late):
        await line.get(timeout=0.01)
    line.waiter.leave()


async def test_a_cancelled_hold_holds_nothing(line: Line) -> None:
    holding = line.task(hold=True)
    await line.until_parked()
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    line.put(1)
    assert await line.get() == 1
