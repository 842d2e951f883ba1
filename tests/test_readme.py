"""README.md does what it says: every snippet is run, and its commands are those of `.ci/run`.

Each Python block has a name in a comment above it, ``<!-- test: name -->``, and a test here
that runs it: a program as a program, anything else as the body of a coroutine, with the
names it speaks of and a process of its own at the other end of the queue.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest

import aioshm
from aioshm import Backoff, Handle, MessageQueue
from tests.helpers import HANG, ROOT, Child, Pipe, current_loop
from tests.test_examples import HELLO, program

README = (ROOT / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(
    r"(?:^<!-- test: ([\w ]+) -->\n)?^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
)
SNIPPETS = dict(BLOCKS)


async def run(name: str, **names: object) -> dict[str, Any]:
    """Run a snippet as the body of a coroutine; gives all the names it leaves behind."""
    scope = {**vars(aioshm), "os": os, **names}
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    result = eval(compile(SNIPPETS[name], f"README.md: {name}", "exec", flags=flags), scope)
    if inspect.iscoroutine(result):
        await result
    return scope


async def read_all(pipe: Pipe, handle: Handle, rank: int, backoff: Backoff | None = None) -> None:
    """A reader: report all that was read when the writer has closed."""
    async with MessageQueue.create_from_handle(handle, rank, backoff=backoff) as queue:
        pipe.send([message async for message in queue])


async def write_all(pipe: Pipe, messages: Sequence[object]) -> None:
    """A writer: report the handle, write, close."""
    async with MessageQueue.create() as queue:
        pipe.send(queue.export_handle())
        for message in messages:
            await queue.enqueue(message, timeout=HANG)


def test_every_snippet_has_a_name_and_a_test() -> None:
    names = [name for name, _ in BLOCKS]
    tested = re.findall(r'(?:run\(|SNIPPETS\[)"([^"]+)"', Path(__file__).read_text())
    assert sorted(names) == sorted(tested)


def test_the_first_program_is_the_example() -> None:
    # test_examples.py runs it.
    assert SNIPPETS["hello"] == HELLO.read_text()
    assert BLOCKS[0][0] == "hello"


async def test_a_handle_travels_as_a_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", "")  # and put it back
    scope = await run("handle")
    assert scope["handle"] == scope["queue"].handle
    await scope["queue"].aclose()


async def test_a_queue_for_large_messages() -> None:
    queue = (await run("large"))["queue"]
    async with queue, MessageQueue.create_from_handle(queue.handle, 0) as reader:
        await queue.enqueue(bytes(1 << 20), timeout=HANG)
        assert await reader.dequeue(HANG) == bytes(1 << 20)
        assert queue.stats().overflow.messages == 1


async def test_a_queue_beyond_one_machine() -> None:
    scope = await run("beyond")
    async with scope["queue"] as queue, scope["reader"] as remote:
        others = [MessageQueue.create_from_handle(queue.handle, rank) for rank in (0, 1)]
        await asyncio.gather(*(end.wait_until_ready(HANG) for end in (queue, remote, *others)))
        await queue.enqueue("to all", timeout=HANG)
        for reader in (remote, *others):
            assert await reader.dequeue(HANG) == "to all"
            await reader.aclose()
        assert queue.handle.remote_ranks == (1, 2)
        assert len(scope["handle"]) < 1500


async def test_the_calls_of_a_writer(capsys: pytest.CaptureFixture[str]) -> None:
    async with MessageQueue.create(n_reader=2) as queue:
        with Child(read_all, queue.handle, 0) as a, Child(read_all, queue.handle, 1) as b:
            await run("writer", queue=queue)
            for child in (a, b):
                assert await child.receive() == [{"step": 1}, {"step": 2}, {"step": 3}]
                await child.join()
    assert "WriterStats(messages=3, " in capsys.readouterr().out


async def test_the_calls_of_a_reader() -> None:
    with Child(write_all, range(5)) as writer:
        async with MessageQueue.create_from_handle(await writer.receive(), rank=0) as queue:
            scope = await run("reader", queue=queue)
        await writer.join()
    # The second and the third may have been late, and then are among the rest.
    got = [scope["first"], scope["second"], scope["third"], *scope["rest"]]
    assert [message for message in got if message is not None] == list(range(5))


async def test_a_write_lease() -> None:
    async with MessageQueue.create() as queue:
        with Child(read_all, queue.handle, 0) as reader:
            await run("write lease", queue=queue)
            await queue.aclose()
            assert await reader.receive() == [b"hello"]
            await reader.join()


async def test_a_read_lease() -> None:
    with Child(write_all, [numpy.arange(10_000)]) as writer:
        async with MessageQueue.create_from_handle(await writer.receive(), rank=0) as queue:
            scope = await run("read lease", queue=queue)
        await writer.join()
    assert scope["total"] == sum(range(10_000))


async def test_the_ways_to_wait() -> None:
    async with MessageQueue.create() as queue:
        scope = await run("backoff", handle=queue.handle)
        await scope["reader"].aclose()
    assert scope["default"] == Backoff(yield_for=100e-6, max_sleep=1.0, doorbell=True)
    assert scope["default"].first_sleep == 0.1
    assert scope["timed"].first_sleep == 1e-3
    for name in ("default", "awake", "timed", "spin", "spin_sleep"):
        async with MessageQueue.create(backoff=scope[name]) as queue:
            with Child(read_all, queue.handle, 0, scope[name]) as reader:
                for number in range(10):
                    await queue.enqueue(number, timeout=HANG)
                await queue.aclose()
                assert await reader.receive() == list(range(10))
                await reader.join()


def test_the_default_sizes_are_those_it_names() -> None:
    defaults = inspect.signature(MessageQueue.create).parameters
    assert defaults["max_chunk_bytes"].default == 2 << 20
    assert defaults["max_chunks"].default == 8
    assert "`max_chunk_bytes` (default 2 MiB)" in README
    assert "`max_chunks` (default 8)" in README


async def test_a_dead_reader_is_evicted() -> None:
    async with MessageQueue.create(n_reader=2) as queue:
        with Child(read_all, queue.handle, 0) as alive, Child(read_all, queue.handle, 1) as dead:
            await queue.enqueue({"step": 1}, timeout=HANG)
            await dead.kill()
            async with asyncio.timeout(HANG):
                while not queue.stats().dead:
                    await asyncio.sleep(0)
            await run("reader died", queue=queue)
            assert [reader.rank for reader in queue.stats().readers] == [0]
            await queue.aclose()
            assert await alive.receive() == [{"step": 1}, {"step": 2}]
            await alive.join()


async def test_a_slow_reader_is_evicted() -> None:
    scope = await run("evict after")
    assert scope["queue"]._patience.seconds == 30
    assert inspect.signature(MessageQueue.create).parameters["evict_after"].default is None
    await scope["queue"].aclose()


async def test_the_fastapi_application(tmp_path: Path) -> None:
    source = SNIPPETS["lifespan"] + "\n\n" + SNIPPETS["def endpoint"]
    (tmp_path / "readme_app.py").write_text(source)
    command = ["-m", "uvicorn", "readme_app:app", "--port=0", f"--app-dir={tmp_path}"]
    with program(*command, f"--loop={current_loop()}") as app:
        address = app.wait_for_line(r"running on (http://127\.0\.0\.1:\d+)")[1]
        async with httpx.AsyncClient(base_url=address, timeout=HANG) as client:
            for call in ("/step/1", "/from-a-thread/2", "/step/3"):
                assert (await client.post(call)).status_code == 200
        app.interrupt("terminal")
        output = await asyncio.to_thread(app.rest)
        assert app.process.returncode == 0, output
    for rank in range(2):
        steps = [line for line in output.splitlines() if line.startswith(f"worker {rank}: ")]
        assert steps == [f"worker {rank}: {{'step': {number}}}" for number in (1, 2, 3)]


def test_the_test_with_pytest_asyncio(tmp_path: Path) -> None:
    (tmp_path / "test_snippet.py").write_text(SNIPPETS["pytest"])
    # Not with what this run of pytest was told: its reports would be overwritten.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    options = ["-W", "error", "-p", "no:cacheprovider"]
    options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env=ours,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_the_set_up_commands_are_those_that_ci_runs() -> None:
    printed = re.findall(r"^```sh\n(.+)\n```$", README, re.MULTILINE)
    commands = [command for command in printed if "venv .venv" in command]
    assert len(commands) == 2
    assert commands[0].endswith(".venv/bin/aioshm demo")
    assert commands[1].endswith(".venv/bin/pytest")
    ci = ROOT / ".ci" / "run"
    done = subprocess.run([ci, "--commands"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == commands
    assert "pip install" not in ci.read_text()


def test_the_links_lead_somewhere() -> None:
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S), re.M
    )
    anchors = {
        "#" + re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target in anchors or (ROOT / target).is_file(), target
