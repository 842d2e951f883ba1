"""A client of the engine server, and the model that says what its streams must be."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from examples.engine_server.model import Model, docstrings
from tests.helpers import HANG, current_loop
from tests.test_examples import Program, program

PROMPTS = ["Return the", "Wait until", "", "words that nobody wrote", "If the queue is"]
TOGETHER = 12
"""Requests at once."""
LONG = 1024
"""Tokens, more than two seconds of them."""


@functools.cache
def trained() -> Model:
    """Train the model that every engine trains for itself."""
    return Model(docstrings())


@dataclass
class Answer:
    """What a client got.

    Attributes:
        asked: the body of its request.
        status: the HTTP status.
        tokens: what was streamed.
        end: the name of the last event, or ``left`` if the client did not wait for one.
    """

    asked: dict[str, Any]
    status: int
    tokens: list[str] = field(default_factory=list)
    end: str = ""
    error: str = ""

    def is_right(self) -> bool:
        """Tell whether all of it is what the model gives alone."""
        alone = trained().stream(self.asked["prompt"], self.asked["seed"])
        if self.end == "done" and len(self.tokens) != self.asked["max_tokens"]:
            return False
        return self.tokens == list(islice(alone, len(self.tokens)))


class Server:
    """The server of a test, and a client of it."""

    def __init__(self, program: Program, client: httpx.AsyncClient) -> None:
        self.program, self.client = program, client

    async def stats(self) -> dict[str, Any]:
        """What the server says of itself."""
        stats: dict[str, Any] = (await self.client.get("/stats")).json()
        return stats

    async def engine(self, condition: Callable[[dict[str, Any]], object] = bool) -> dict[str, Any]:
        """Wait until there is an engine, and it is so; gives what the server says of it."""
        async with asyncio.timeout(HANG):
            while not ((engine := (await self.stats())["engine"] or {}) and condition(engine)):
                await asyncio.sleep(0.01)
        return engine

    @contextlib.asynccontextmanager
    async def stream(self, asked: dict[str, Any]) -> AsyncIterator[tuple[Answer, Any]]:
        """Ask, and give what was got so far and an iterator that adds to it event by event."""
        async with self.client.stream("POST", "/generate", json=asked) as response:
            answer = Answer(asked, response.status_code)
            if answer.status != 200:
                answer.error = json.loads(await response.aread())["detail"]
            yield answer, read_events(response, answer)

    async def ask(self, asked: dict[str, Any], leave_after: int = sys.maxsize) -> Answer:
        """Ask, and read to the end, or until there were so many tokens."""
        async with self.stream(asked) as (answer, events):
            if answer.status == 200:
                while not answer.end and len(answer.tokens) < leave_after:
                    await anext(events)
                answer.end = answer.end or "left"
        return answer


async def read_events(response: httpx.Response, answer: Answer) -> AsyncIterator[str]:
    name = ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            data = json.loads(value)
            if name == "token":
                answer.tokens.append(data["token"])
            else:
                answer.end, answer.error = name, data.get("error", "")
            yield name


def children_of(pid: int) -> list[int]:
    """Look at which processes a process started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


@contextlib.asynccontextmanager
async def server(**environment: str) -> AsyncIterator[Server]:
    """Start the server on this test's loop, and end it by Ctrl-C when the test is over."""
    command = ["-m", "uvicorn", "examples.engine_server.server:app", "--port=0"]
    command += [f"--loop={current_loop()}", "--no-access-log"]
    with program(*command, **environment) as it:
        address = it.wait_for_line(r"running on (http://127\.0\.0\.1:\d+)")[1]
        # Each request on a connection of its own, as from so many clients: the server may
        # close one that is kept idle in the very moment in which it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=address, timeout=HANG, limits=limits) as client:
            try:
                yield Server(it, client)
            except BaseException:
                for pid in (*children_of(it.process.pid), it.process.pid):
                    os.kill(pid, signal.SIGKILL)  # the engine may be stopped
                print(it.rest())  # what the server has to say about it
                raise
        it.interrupt("terminal")
        output = await asyncio.to_thread(it.rest)
        assert it.process.returncode == 0, output
        assert "Traceback" not in output, output


def some_request(rng: random.Random, most: int) -> dict[str, Any]:
    """Make up what to ask."""
    return {
        "prompt": rng.choice(PROMPTS),
        "max_tokens": rng.randint(1, most),
        "seed": rng.randrange(1 << 32),
    }
