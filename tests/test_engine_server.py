"""The engine server: every stream as the model gives it alone, whatever happens around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.engines import LONG, TOGETHER, Server, children_of, server, some_request
from tests.helpers import HANG, ROOT, until
from tests.test_examples import Program, program, sweep


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> int:
    """How many times the size of an ordinary run; 30 is 120 batches and 30 kills."""
    return int(request.config.getoption("--stress-scale", default=1))


def is_alive(pid: int) -> bool:
    """Look whether a process, of whomever, has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_requests_that_come_together_are_served_by_the_same_steps() -> None:
    async with server() as it, contextlib.AsyncExitStack() as streams:
        pid = (await it.engine())["pid"]
        os.kill(pid, signal.SIGSTOP)  # so that all of them lie in the queue when it looks
        asked = [{"prompt": "", "max_tokens": 20, "seed": seed} for seed in range(TOGETHER)]
        opened = [await streams.enter_async_context(it.stream(one)) for one in asked]
        os.kill(pid, signal.SIGCONT)
        for answer, events in opened:
            assert [name async for name in events] == ["token"] * 20 + ["done"]
            assert answer.is_right()
        counts = (await it.stats())["engine"]["counts"]
        assert (counts["steps"], counts["tokens"], counts["largest"]) == (20, 240, TOGETHER)
        assert (counts["joined"], counts["finished"]) == (TOGETHER, TOGETHER)


async def test_a_client_that_leaves_cancels_its_request() -> None:
    async with server() as it:
        pid = (await it.engine())["pid"]
        os.kill(pid, signal.SIGSTOP)  # else it might be done before it hears of it
        async with it.stream({"prompt": "", "max_tokens": 100, "seed": 1}) as (stays, events):
            async with it.stream({"prompt": "", "max_tokens": LONG, "seed": 2}):
                pass
            # Two requests and a cancel.
            await it.engine(lambda engine: engine["queues"]["requests"]["messages"] == 3)
            os.kill(pid, signal.SIGCONT)
            assert [name async for name in events] == ["token"] * 100 + ["done"]
        assert stays.is_right()
        counts = (await it.engine())["counts"]
        assert (counts["joined"], counts["finished"], counts["cancelled"]) == (2, 1, 1)
        assert counts["tokens"] == 100


@pytest.mark.timeout(600)
async def test_batches_of_twelve_with_random_disconnects(scale: int) -> None:
    rng = random.Random(12)
    ends: Counter[str] = Counter()
    batches = 4 * scale
    async with server() as it:
        await it.engine()
        for _ in range(batches):
            leave = [rng.randrange(30) if rng.random() < 0.3 else LONG for _ in range(TOGETHER)]
            asks = [it.ask(some_request(rng, 60), after) for after in leave]
            for answer in await asyncio.gather(*asks):
                assert answer.status == 200, answer
                assert answer.is_right(), answer
                ends[answer.end] += 1
        total = TOGETHER * batches
        engine = await it.engine(
            lambda engine: sum(engine["counts"][one] for one in ("finished", "cancelled")) == total
        )
        assert (await it.stats())["starts"] == 1
    assert ends.keys() == {"done", "left"}
    assert ends.total() == total
    counts, queues = engine["counts"], engine["queues"]
    assert counts["joined"] == total
    # Who leaves in the last moment is done for the engine.
    assert counts["finished"] >= ends["done"]
    assert 0 < counts["cancelled"] <= ends["left"]
    assert counts["largest"] > 1
    assert counts["steps"] < counts["tokens"]
    # A cancel may cross the last step of its request, and then cancels nothing.
    assert counts["cancelled"] <= queues["requests"]["messages"] - total <= ends["left"]
    assert {queue["waits"]["rescues"] for queue in queues.values()} == {0}
    print(f"{batches} batches of {TOGETHER}: {dict(ends)}, {engine}")


HOLD = """
import os, time
while os.path.exists({path!r}):
    time.sleep(0.01)
"""


async def test_a_dead_engine_ends_its_streams_cleanly_and_is_replaced(
    tmp_path: Path,
) -> None:
    # Python runs this at its start: a file says how long the next engine's takes.
    hold = tmp_path / "hold"
    (tmp_path / "sitecustomize.py").write_text(HOLD.format(path=str(hold)))
    asked = {"prompt": "Return the", "max_tokens": LONG, "seed": 1}
    async with server(PYTHONPATH=f"{tmp_path}:{ROOT}") as it:
        pid = (await it.engine())["pid"]
        async with it.stream(asked) as (answer, events):
            for _ in range(3):
                assert await anext(events) == "token"
            hold.touch()
            os.kill(pid, signal.SIGKILL)
            assert [name async for name in events][-1] == "error"
        assert (answer.status, answer.end) == (200, "error")
        assert answer.error == "the engine ended before it was done; ask again"
        assert answer.is_right()
        for _ in range(TOGETHER):
            refused = await it.ask(asked)
            assert (refused.status, refused.tokens) == (503, [])
            assert "starting" in refused.error
        hold.unlink()
        engine = await it.engine()
        assert (await it.stats())["starts"] == 2
        assert engine["pid"] != pid
        assert engine["counts"]["joined"] == 0
        again = await it.ask({**asked, "max_tokens": 50})
        assert (again.status, again.end) == (200, "done")
        assert again.is_right()


@pytest.mark.timeout(600)
async def test_an_engine_killed_every_two_seconds(scale: int) -> None:
    kills = scale
    killed: set[int] = set()
    over = asyncio.Event()
    ends: Counter[str] = Counter()

    async def client(it: Server, number: int) -> None:
        rng = random.Random(number)
        while not over.is_set():
            answer = await it.ask(some_request(rng, 200))
            assert answer.is_right(), answer
            assert (answer.status, answer.end) in {(200, "done"), (200, "error"), (503, "")}
            assert bool(answer.error) == (answer.end != "done"), answer
            ends[answer.end or "503"] += 1
            if answer.status == 503:
                await asyncio.sleep(0.05)

    async with server() as it:
        await it.engine()
        async with asyncio.TaskGroup() as clients:
            for number in range(TOGETHER):
                clients.create_task(client(it, number))
            for _ in range(kills):
                await asyncio.sleep(2)
                # Whichever is there, ready or still in training.
                await until(lambda: children_of(it.program.process.pid))
                for pid in children_of(it.program.process.pid):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            await it.engine(lambda engine: engine["pid"] not in killed)
            over.set()
        last = [it.ask(some_request(random.Random(seed), 60)) for seed in range(TOGETHER)]
        for answer in await asyncio.gather(*last):
            assert (answer.status, answer.end) == (200, "done")
            assert answer.is_right()
        assert (await it.stats())["starts"] == kills + 1 == len(killed) + 1
    assert ends["done"]
    assert ends["error"]
    print(f"{kills} kills, {TOGETHER} clients: {dict(ends)}")


# -- how it ends ------------------------------------------------------------------------------


@contextlib.contextmanager
def program_of_the_readme() -> Iterator[tuple[Program, str]]:
    with program("-m", "examples.engine_server", PORT="0") as it:
        yield it, it.wait_for_line(r"running on (http://127\.0\.0\.1:\d+)")[1]


@contextlib.contextmanager
def running_stream(address: str, tokens: int) -> Iterator[tuple[int, Iterator[str]]]:
    """Wait for the engine, and ask; gives the engine's pid and the lines to come."""
    with httpx.Client(base_url=address, timeout=HANG) as client:
        deadline = time.monotonic() + HANG
        while not (engine := client.get("/stats").json()["engine"]):
            assert time.monotonic() < deadline, "no engine"
            time.sleep(0.01)
        with client.stream(
            "POST", "/generate", json={"prompt": "", "max_tokens": tokens}
        ) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: token"
            yield engine["pid"], lines


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_the_running_streams_have(how: signal.Signals) -> None:
    with program_of_the_readme() as (it, address):
        with running_stream(address, 100) as (engine, lines):
            os.killpg(it.process.pid, how)  # as a terminal or a service manager does
            rest = list(lines)
        assert rest.count("event: token") == 99
        assert rest[-3:] == ["event: done", "data: {}", ""]
        it.process.wait(HANG)
        assert not is_alive(engine)
        output = it.rest()
        # uvicorn ends as the signal would have ended it, but for Ctrl-C.
        assert it.process.returncode == (0 if how == signal.SIGINT else -how), output
        assert "Traceback" not in output
        assert "starting another" not in output


def test_it_ends_while_the_engine_starts() -> None:
    with program_of_the_readme() as (it, _):
        it.interrupt("terminal")
        output = it.rest()
        assert it.process.returncode == 0, output
        assert "Traceback" not in output


def test_the_engine_ends_when_the_server_is_killed() -> None:
    with program_of_the_readme() as (it, address):
        with running_stream(address, LONG) as (engine, lines):
            it.process.kill()
            with contextlib.suppress(httpx.TransportError):
                list(lines)
        output = it.rest()
        # A process closes its output a moment before it is gone.
        deadline = time.monotonic() + HANG
        while is_alive(engine):
            assert time.monotonic() < deadline, "the engine outlives the server"
            os.sched_yield()
        assert "Traceback" not in output, output
    asyncio.run(sweep())
