"""``aioshm demo`` as people run it: real processes, both loops, terminals, signals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aioshm import MessageQueue
from tests.commands import Command, family, wait_for_exit
from tests.helpers import HANG, ROOT

SHORT = ("--seconds", "0.1", "--readers", "2")
LONG = ("--seconds", "60", "--readers", "2")
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rich", "numpy"):
            raise ModuleNotFoundError(f"no {name} in this test", name=name)

sys.meta_path.insert(0, Block())
"""


class Demo(Command):
    """One run of ``aioshm demo``."""

    def __init__(self, *args: str, terminal: bool = False, **env: str) -> None:
        super().__init__("demo", *args, terminal=terminal, **env)


@pytest.fixture(autouse=True)
def nobody_left(runtime_folder: Path) -> Iterator[None]:
    """Fail a test whose command left a process, of whatever parent."""
    yield
    assert family(runtime_folder) == set()


# -- to its end -----------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_demo_passes_all_its_checks_and_says_so_in_json(loop: str) -> None:
    with Demo("--seconds", "0.1", "--json", "--loop", loop) as demo:
        assert demo.end() == 0, demo.errors
        told: dict[str, Any] = json.loads(demo.shown)  # one object and nothing else
        errors = demo.errors
    assert told["ok"] is True
    assert told["interrupted"] is False
    assert told["failure"] is None
    assert told["loop"] == loop
    assert told["readers"] == 3
    assert all(check["ok"] for check in told["checks"])
    assert {check["act"] for check in told["checks"]} == set(told["acts"])
    flood, trickle = told["acts"]["flood"], told["acts"]["trickle"]
    crash, gone = told["acts"]["crash"], told["acts"]["writer_gone"]
    assert flood["messages_per_s"] > 0
    assert flood["mb_per_s"] > 0
    assert flood["times_zmq"] == flood["messages_per_s"] / flood["zmq"]["messages_per_s"]
    assert trickle["messages"] == 10
    assert 0 < trickle["latency_us"]["p50"] <= trickle["latency_us"]["p99"]
    for phase in (trickle, trickle["idle"]):
        assert len(phase["cpu_percent"]["readers"]) == 3
        assert len(phase["wakeups_per_s"]["readers"]) == 3
    assert crash["rank"] == 1
    assert crash["reader_died_ms"] > 0
    assert 0 < crash["next"] < crash["messages"]
    assert 0 < gone["surely_written"] <= min(gone["messages"])
    assert len(gone["writer_died_ms"]) == 3
    # People may read along on stderr.
    assert re.search(r"ReaderDied rank 1 after \d+\.\d ms", errors)
    assert re.search(r"\d times zmq\.asyncio, same run", errors)
    assert f"all {len(told['checks'])} checks passed" in errors
    assert "\x1b" not in errors
    assert "\r" not in errors


def test_on_a_terminal_there_is_a_live_bar_and_a_table() -> None:
    with Demo(*SHORT, terminal=True) as demo:
        assert demo.end() == 0, demo.shown
        shown = demo.shown
    assert "━" in shown  # the bar
    assert "──" in shown  # the table
    assert "2 readers" in shown
    assert re.search(r"all \d+ checks passed", shown)
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")  # the cursor is back


def test_without_rich_and_numpy_there_are_plain_lines_even_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    with Demo(*SHORT, terminal=True, PYTHONPATH=path) as demo:
        assert demo.end() == 0, demo.shown
        shown = demo.shown
    assert re.search(r"all \d+ checks passed", shown)
    assert "\x1b" not in shown


# -- cut short ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "shown", "table"),
    [
        (LONG, r"aioshm .* demo", r"\nflood +interrupted +before it began"),
        (LONG, r"%  aioshm  +[\d,]+ messages", r"\nflood +interrupted +aioshm +[\d,]+ messages"),
        (SHORT, r"latency: p50", r"\nflood +messages(.|\n)*\ntrickle +latency(.|\n)*interrupted"),
        (SHORT, r"ReaderDied", r"\ncrash +kill -9 a reader +ReaderDied rank 1"),
    ],
    ids=["at the start", "flood", "trickle", "crash"],
)
def test_an_interrupt_shows_the_table_so_far_and_leaves_nobody(
    args: tuple[str, ...], shown: str, table: str, runtime_folder: Path
) -> None:
    with Demo(*args) as demo:
        demo.wait_for(shown)
        demo.process.send_signal(signal.SIGINT)
        assert demo.end() == 130
        assert family(runtime_folder) == set()  # at once, not some time later
        assert re.search(table, demo.shown), demo.shown
        assert re.search(r"\ninterrupted; \d+ of \d+ checks so far passed\n$", demo.shown)
        assert demo.errors == ""


def test_an_interrupt_from_the_keyboard_gives_the_terminal_back() -> None:
    with Demo(*LONG, terminal=True) as demo:
        demo.wait_for(r"aioshm +[\d,]+ messages")
        os.write(demo.fd, b"\x03")
        assert demo.end() == 130
        shown = demo.shown
    assert "Traceback" not in shown
    assert "interrupted; 0 of 0 checks so far passed" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")


def test_an_interrupt_still_gives_one_json_object() -> None:
    with Demo(*LONG, "--json") as demo:
        while not re.search(r"%  aioshm  +[\d,]+ messages", demo.errors):
            assert demo.process.poll() is None
            os.sched_yield()
        demo.process.send_signal(signal.SIGINT)
        assert demo.end() == 130
        told = json.loads(demo.shown)
    assert told["interrupted"] is True
    assert told["ok"] is False


def test_a_second_interrupt_does_not_disturb_the_first() -> None:
    with Demo(*LONG) as demo:
        demo.wait_for(r"%  aioshm  +[\d,]+ messages")
        demo.process.send_signal(signal.SIGINT)
        demo.process.send_signal(signal.SIGINT)
        assert demo.end() == 130
        assert "Traceback" not in demo.errors


def test_a_termination_ends_it_in_order_too(runtime_folder: Path) -> None:
    with Demo(*LONG) as demo:
        demo.wait_for(r"%  aioshm  +[\d,]+ messages")
        demo.process.terminate()
        assert demo.end() == 128 + signal.SIGTERM
        assert family(runtime_folder) == set()
        assert re.search(r"\nflood +interrupted", demo.shown)


def test_children_leave_when_their_parent_is_killed(runtime_folder: Path) -> None:
    with Demo(*LONG) as demo:
        demo.wait_for(r"%  aioshm  +[\d,]+ messages")
        everybody = family(runtime_folder)
        assert len(everybody) == 4
        demo.process.kill()
        assert demo.end() == -signal.SIGKILL
        wait_for_exit(everybody)


def test_a_reader_of_the_output_that_leaves_ends_it_without_a_word(runtime_folder: Path) -> None:
    with Demo(*LONG) as demo:
        demo.wait_for(r"\nflood: ")
        reading, writing = os.pipe()
        os.close(writing)
        os.dup2(reading, demo.fd)  # and so nobody has the other pipe open
        os.close(reading)
        assert demo.process.wait(HANG) == 1
        assert demo.errors == ""


@pytest.mark.parametrize("which", [0, -1], ids=["a reader", "the writer"])
def test_a_child_that_dies_against_the_plan_is_named(which: int, runtime_folder: Path) -> None:
    with Demo(*LONG) as demo:
        demo.wait_for(r"%  aioshm  +[\d,]+ messages")
        victim = sorted(family(runtime_folder) - {demo.process.pid})[which]
        os.kill(victim, signal.SIGKILL)
        assert demo.end() == 1
        name = "reader 0" if which == 0 else "writer"
        said = rf"\nFAILED flood: {name} \(pid {victim}\) ended by signal 9, not as planned\n$"
        assert re.search(said, demo.shown), demo.shown
        assert re.search(r"\nflood +broke off +aioshm", demo.shown)
        assert demo.errors == ""
    # A writer that was killed leaves its socket file to the next one.
    asyncio.run(MessageQueue.create().aclose())
