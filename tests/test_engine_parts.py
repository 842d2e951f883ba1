"""The parts of the engine server that need no engine: model, batch, and what comes in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from itertools import islice

import httpx
import pytest

from examples.engine_server import supervisor
from examples.engine_server.client import Engine, EngineDown
from examples.engine_server.engine import Batch
from examples.engine_server.messages import Cancel, Generate
from examples.engine_server.model import Model
from examples.engine_server.server import app
from tests.engines import LONG, trained
from tests.helpers import HANG, ROOT, pair

PRINT_A_STREAM = """
from itertools import islice
from examples.engine_server.model import Model, docstrings
print(list(islice(Model(docstrings()).stream("Return the", 7), 200)))
"""


def test_a_stream_depends_on_prompt_and_seed_alone() -> None:
    def first(prompt: str, seed: int) -> list[str]:
        return list(islice(trained().stream(prompt, seed), 200))

    for hash_seed in ("1", "2"):
        printed = subprocess.run(
            [sys.executable, "-c", PRINT_A_STREAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=HANG,
        )
        assert printed.stdout == f"{first('Return the', 7)}\n"
    assert first("Return the", 7) != first("Return the", 8) != first("Wait until", 8)


def test_the_model_draws_words_as_often_as_they_were_counted() -> None:
    words = Model(["a b a b a c"])
    drawn = Counter(next(words.stream("a", seed)) for seed in range(3000))
    assert set(drawn) == {"b", "c"}
    assert 1800 < drawn["b"] < 2200  # two of three
    assert next(words.stream("c", 0)) == "a"  # its end is followed by its beginning
    assert next(words.stream("what is that", 0)) in {"a", "b", "c"}


def test_one_step_serves_all_that_run_and_new_requests_join_between_steps() -> None:
    batch = Batch(trained())
    streams: dict[int, list[str]] = {number: [] for number in range(4)}
    first, second = Generate(0, "Return the", 5, 0), Generate(1, "", 3, 1)
    third, fourth = Generate(2, "", 4, 2), Generate(3, "Wait until", 9, 3)
    comes: dict[int, list[Generate | Cancel]] = {
        0: [first, second],
        2: [third],
        3: [fourth, Cancel(first.number), Cancel(second.number)],  # the second is done already
    }
    sizes = []
    for at in range(6):
        for message in comes.get(at, []):
            batch.take(message)
        step = batch.step()
        sizes.append(len(step.tokens))
        for number, token in step.tokens.items():
            streams[number].append(token)
    assert sizes == [2, 2, 3, 2, 2, 2]
    for one, count in ((first, 3), (second, 3), (third, 4), (fourth, 3)):
        assert streams[one.number] == list(islice(trained().stream(one.prompt, one.seed), count))
    assert batch
    counts = step.counts
    assert (counts.steps, counts.tokens, counts.largest) == (6, 13, 3)
    assert (counts.joined, counts.finished, counts.cancelled) == (4, 2, 1)


# -- what comes in ----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def client_without_engine() -> AsyncIterator[httpx.AsyncClient]:
    app.state.supervisor = supervisor.Supervisor()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": None},
        {"prompt": 7},
        {"prompt": "x" * 10_001},
        {"prompt": "x", "max_tokens": 0},
        {"prompt": "x", "max_tokens": LONG + 1},
        {"prompt": "x", "max_tokens": "many"},
        {"prompt": "x", "seed": -1},
        {"prompt": "x", "seed": 1.5},
        {"prompt": "x", "temperature": 1},
        ["prompt"],
    ],
    ids=json.dumps,
)
async def test_bad_input_gets_422(body: object) -> None:
    async with client_without_engine() as client:
        assert (await client.post("/generate", json=body)).status_code == 422
        assert (await client.post("/generate", content=b"{")).status_code == 422


async def test_without_an_engine_requests_get_503() -> None:
    async with client_without_engine() as client:
        answer = await client.post("/generate", json={"prompt": "x"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "starting" in answer.json()["detail"]
        assert (await client.get("/stats")).json() == {"starts": 0, "engine": None}


async def test_a_request_that_cannot_be_written_is_refused() -> None:
    writer, reader = await pair()
    engine = Engine(0, writer, reader)
    await writer.aclose()
    with pytest.raises(EngineDown, match="takes no requests"):
        await engine.generate("x", 1, 1)
    assert engine.stats()["streams"] == 0
    await engine.collect()  # it ends, for the writer closed
    await reader.aclose()


@pytest.mark.parametrize(("code", "ended_with"), [("", 0), ("input()", -signal.SIGKILL)])
async def test_an_engine_that_does_not_leave_is_killed(
    monkeypatch: pytest.MonkeyPatch, code: str, ended_with: int
) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=PIPE)
    if code:
        monkeypatch.setattr(supervisor, "LEAVE", 0.1)
    await supervisor.gone(process)
    assert process.returncode == ended_with
