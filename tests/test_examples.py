"""The examples, run as a user would run them, and ended by Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from aioshm import MessageQueue
from tests.helpers import HANG, ROOT, current_loop

HELLO = ROOT / "examples" / "hello.py"
FASTAPI_APP = "examples/fastapi_app.py"


class Program:
    """A program in a session of its own, so that all it starts can be found and signalled.

    Everything it starts inherits its output, so `rest` comes to an end with the last of
    them.

    Args:
        command: what Python is to run.
        prefix: a command that runs another, such as a machine's of `tests.networks`.
        environment: more environment.
    """

    def __init__(self, *command: str, prefix: Sequence[str] = (), **environment: str) -> None:
        # Unbuffered, print() writes a line and its end apart, and another process's line
        # may come in between.
        inherited = {name: it for name, it in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**inherited, **environment},
            start_new_session=True,
        )

    def session(self) -> dict[int, str]:
        """Look at what is alive of it: process id to command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # The second field, the name in parentheses, may hold spaces.
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid and fields[0] not in "ZX":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        return found

    def wait_for_child(self, words: str) -> int:
        """Wait until a process with `words` in its command line is there."""
        deadline = time.monotonic() + HANG
        while time.monotonic() < deadline:
            for pid, command in self.session().items():
                if words in command:
                    return pid
        raise AssertionError(f"no process with {words!r} within {HANG} s")

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """Wait for a line of output; pytest-timeout guards it."""
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            if match := re.search(pattern, line):
                return match
            seen += line
        raise AssertionError(f"ended without {pattern!r}:\n{seen}")

    def rest(self) -> str:
        """Wait until it ended and all that it started, and give what they still printed."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        self.process.wait(HANG)
        # A process closes its output a moment before it is gone.
        deadline = time.monotonic() + HANG
        while (left := self.session()) and time.monotonic() < deadline:
            os.sched_yield()
        assert not left, f"left behind: {left}"
        return output

    def interrupt(self, whom: str) -> None:
        """Send SIGINT as a terminal does, to all of it, or as `kill` does, to its first process."""
        if whom == "terminal":
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def program(*command: str, prefix: Sequence[str] = (), **environment: str) -> Iterator[Program]:
    """Run a program, and end all of it if the test did not."""
    it = Program(*command, prefix=prefix, **environment)
    try:
        yield it
    finally:
        for pid in it.session():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        it.process.wait()
        if it.process.stdout is not None:
            it.process.stdout.close()


def test_hello_greets_both_readers_and_is_under_twenty_lines() -> None:
    assert len(HELLO.read_text().splitlines()) < 20
    with program("-W", "error", str(HELLO)) as hello:
        output = hello.rest()
        assert sorted(output.splitlines()) == [
            "reader 0 got hello, everybody",
            "reader 1 got hello, everybody",
        ]
        assert hello.process.returncode == 0


@pytest.mark.parametrize("whom", ["terminal", "kill"])
def test_hello_leaves_nothing_behind_when_it_is_interrupted(whom: str) -> None:
    with program(str(HELLO)) as hello:
        # A stopped reader does not join, so the writer is there to be interrupted.
        reader = hello.wait_for_child("spawn_main")
        os.kill(reader, signal.SIGSTOP)
        hello.interrupt(whom)
        os.kill(reader, signal.SIGCONT)
        hello.rest()


@contextlib.contextmanager
def fastapi_app(how: str) -> Iterator[tuple[Program, str]]:
    """Start the FastAPI example on a free port; gives it and its address."""
    if how == "file":
        command: tuple[str, ...] = (FASTAPI_APP,)
    else:
        command = ("-m", "uvicorn", "examples.fastapi_app:app", "--port=0")
        command += (f"--loop={current_loop()}",)
    with program(*command, PORT="0") as app:
        address = app.wait_for_line(r"running on (http://127\.0\.0\.1:\d+)")
        yield app, address[1]


@pytest.mark.parametrize("whom", ["terminal", "kill"])
@pytest.mark.parametrize("how", ["uvicorn", "file"])
async def test_fastapi_app_answers_many_at_once_and_ends_at_ctrl_c(how: str, whom: str) -> None:
    with fastapi_app(how) as (app, address):
        worker = app.wait_for_child("spawn_main")
        words = [f"word{number}" for number in range(50)]
        async with httpx.AsyncClient(base_url=address, timeout=HANG) as client:
            answers = await asyncio.gather(*(client.get(f"/upper/{word}") for word in words))
        assert [answer.json() for answer in answers] == [
            f"{word.upper()} from process {worker}" for word in words
        ]
        app.interrupt(whom)
        output = await asyncio.to_thread(app.rest)
        assert app.process.returncode == 0, output
        assert "Traceback" not in output


async def sweep() -> None:
    """Start one more queue: it removes the socket files of those that were killed."""
    async with MessageQueue.create():
        pass


async def test_fastapi_app_says_so_when_its_worker_was_killed() -> None:
    with fastapi_app("uvicorn") as (app, address):
        os.kill(app.wait_for_child("spawn_main"), signal.SIGKILL)
        async with httpx.AsyncClient(base_url=address, timeout=HANG) as client:
            answer = await client.get("/upper/anybody")
            assert answer.status_code == 503
            assert answer.json() == {"detail": "the worker died"}
        app.interrupt("terminal")
        output = await asyncio.to_thread(app.rest)
        assert app.process.returncode == 0, output
    await sweep()


async def test_fastapi_app_has_a_worker_that_does_not_outlive_it() -> None:
    with fastapi_app("uvicorn") as (app, _):
        app.wait_for_child("spawn_main")
        app.process.kill()
        output = await asyncio.to_thread(app.rest)
        assert "WriterDied" in output
    await sweep()
