"""``aioshm bench`` as people run it: real processes, tiny sizes, terminals, signals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from aioshm.cli.bench.contenders import AIOSHM, ALL, FLOORS, Contender
from aioshm.cli.bench.measure import Bench
from aioshm.cli.bench.plan import CASES, Case
from aioshm.cli.children import ChildFailed
from tests.commands import Command, family, wait_for_exit
from tests.helpers import HANG, ROOT, current_loop, until

TINY = ("--seconds", "0.02")
LONG = ("--seconds", "60")
CASE = {case.key: case for case in CASES}
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rich", "numpy", "faster_fifo", "iceoryx2"):
            raise ModuleNotFoundError(f"no {name} in this test", name=name)

sys.meta_path.insert(0, Block())
"""
# Readers of aioshm get the seventh message of a flood with another text.
CORRUPT = """
from aioshm.codec import PickleCodec

def decode(self, frames, decode=PickleCodec.decode):
    message = decode(self, frames)
    if isinstance(message, dict) and message["step"] == 7:
        message["text"] = message["text"][::-1] + "."
    return message

PickleCodec.decode = decode
"""


class BenchCommand(Command):
    """One run of ``aioshm bench``."""

    def __init__(self, *args: str, terminal: bool = False, **env: str) -> None:
        super().__init__("bench", *args, terminal=terminal, **env)


@pytest.fixture(autouse=True)
def nothing_left(runtime_folder: Path) -> Iterator[None]:
    """Fail a test that left a process, a folder, or something in /dev/shm."""
    yield
    assert family(runtime_folder) == set()
    assert not [path for path in runtime_folder.iterdir() if path.name.startswith("aioshm-bench")]
    # Other benches may run on this machine; these names have our folder's in them.
    assert not list(Path("/dev/shm").glob(f"*{runtime_folder.name}*"))


@contextmanager
def isolated(folder: Path) -> Iterator[None]:
    """Have processes that this one starts look like those of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", None)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield


# -- to its end -----------------------------------------------------------------------------


@pytest.mark.timeout(10 * HANG)
def test_a_quick_run_measures_everybody_and_says_so_in_json(tmp_path: Path) -> None:
    drawn = tmp_path / "out.svg"
    with BenchCommand("--quick", *TINY, "--json", "--plot", str(drawn)) as bench:
        assert bench.end(9 * HANG) == 0, bench.errors
        told: dict[str, Any] = json.loads(bench.shown)  # one object and nothing else
        errors = bench.errors
    assert told["ok"] is True
    assert told["interrupted"] is False
    assert told["failures"] == []
    assert set(told["missing"]) <= {"aioshm-c"}  # there may be no compiler
    there = [one for one in AIOSHM if one.key not in told["missing"]]
    assert list(told["rings"]) == [one.key.removeprefix("aioshm-") for one in there]
    assert all(told["rings"].values())
    assert told["quick"] is True
    assert told["rounds"] == 1
    assert told["seconds"] == 0.02
    assert told["loop"] == "uvloop"
    assert told["processor"]
    assert set(told["versions"]) == {"pyzmq", "faster-fifo", "iceoryx2", "numpy", "uvloop"}
    quick = [case for case in CASES if case.quick]
    assert [case["case"] for case in told["cases"]] == [case.key for case in quick]
    for case, said in zip(quick, told["cases"], strict=True):
        there_too = {one.key for one in case.contenders} - set(told["missing"])
        assert set(said["results"]) == there_too
        for result in said["results"].values():
            assert len(result["rounds"]) == 1
            assert result["min"] == result["median"] == result["max"]
            assert result["median"] > 0 or case.work == "rate"
            if case.work == "round trip":
                assert 0 < result["median"] <= result["rounds"][0]["p99"]
        if AIOSHM[0] in case.contenders:
            ours = said["results"][AIOSHM[0].key]
            assert set(ours["times_better"]) == set(said["results"]) - {AIOSHM[0].key}
    # Nine for each ring, and one for what needs none.
    assert len(told["targets"]) == 9 * len(there) + 1
    assert [target["met"] for target in told["targets"]].count(None) == 2 * len(there)
    # People may read along on stderr.
    assert re.search(r"%  round 1 of 1: ", errors)
    assert "every message was verified" in errors
    assert "\x1b" not in errors
    picture = ElementTree.parse(drawn).getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    # One reader and eight are among the quick cases, the payloads of several sizes are not.
    shown = [*CASE["throughput-1"].contenders, *CASE["throughput-8"].contenders]
    points = [one for one in shown if one not in FLOORS and one.key not in told["missing"]]
    assert len(picture.findall("{*}circle")) == len(points)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_rounds_alternate_and_give_a_spread(loop: str) -> None:
    only = ("--only", "roundtrip-parked", "cpu-10k")
    with BenchCommand(*TINY, *only, "--rounds", "3", "--loop", loop, "--json") as bench:
        assert bench.end() == 0, bench.errors
        told = json.loads(bench.shown)
    assert told["loop"] == loop
    assert [case["case"] for case in told["cases"]] == ["roundtrip-parked", "cpu-10k"]
    for case in told["cases"]:
        for result in case["results"].values():
            values = [figures["value"] for figures in result["rounds"]]
            assert len(values) == 3
            assert (result["min"], result["max"]) == (min(values), max(values))
            assert result["median"] == sorted(values)[1]


def test_on_a_terminal_there_is_a_live_bar_and_a_table() -> None:
    with BenchCommand("--quick", *TINY, "--only", "roundtrip-parked", terminal=True) as bench:
        assert bench.end() == 0, bench.shown
        shown = bench.shown
    assert "━" in shown  # the bar
    assert "──" in shown  # the table
    assert "eventfd + epoll alone" in shown
    assert "every message was verified" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")  # the cursor is back


def test_what_is_not_installed_is_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    only = ("--only", "throughput-1", "numpy")
    with BenchCommand(*TINY, *only, "--rounds", "1", terminal=True, PYTHONPATH=path) as bench:
        assert bench.end() == 0, bench.shown
        shown = bench.shown
    assert re.search(r"not installed: faster-fifo, iceoryx2, numpy(, the C ring)?\s", shown)
    assert "multiprocessing.Pipe" in shown
    assert not re.search(r"faster-fifo +[\d,]+ /s", shown)
    assert "numpy of" not in shown
    assert "\x1b" not in shown


# -- what is wrong is noticed -------------------------------------------------------------------


def test_a_receiver_that_gets_something_else_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CORRUPT)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    only = ("--only", "throughput-2", "roundtrip-awake")
    with BenchCommand(*TINY, *only, "--rounds", "1", "--json", PYTHONPATH=path) as bench:
        assert bench.end() == 1
        told = json.loads(bench.shown)
        errors = bench.errors
    assert told["ok"] is False
    wrong = "got 1 wrong: message 7 is another one, or its checksum is wrong"
    for case in ("throughput-2", "roundtrip-awake"):
        for reader in range(2):
            line = f"{case}: {AIOSHM[0].name}: reader {reader} {wrong}"
            assert any(failure.startswith(line) for failure in told["failures"]), told["failures"]
            assert f"FAILED {line}" in errors
    # A figure of wrong messages is none; those of the others stand.
    for said in told["cases"]:
        assert AIOSHM[0].key not in said["results"]
        assert "mp-pipe" in said["results"]
    assert told["targets"] == []


async def test_a_process_that_dies_is_named(runtime_folder: Path) -> None:
    def kill_a_reader() -> bool:
        # The child, and the two readers that it has forked.
        there = sorted(family(runtime_folder))
        if len(there) == 3:
            os.kill(there[-1], signal.SIGKILL)
        return len(there) == 3

    with isolated(runtime_folder), Bench(current_loop()) as bench:
        measuring = asyncio.create_task(bench.measure(CASE["throughput-2"], AIOSHM[0], HANG))
        await until(kill_a_reader)
        with pytest.raises(ChildFailed, match=r"reader \d \(pid \d+\) ended by signal 9"):
            await measuring


# -- cut short ------------------------------------------------------------------------------


def test_an_interrupt_shows_the_tables_so_far_and_leaves_nobody(runtime_folder: Path) -> None:
    with BenchCommand("--seconds", "1.1", "--only", "roundtrip-parked") as bench:
        bench.wait_for(r"round 1 of 5: roundtrip-parked, multiprocessing.Pipe")
        bench.process.send_signal(signal.SIGINT)
        assert bench.end() == 130
        assert family(runtime_folder) == set()  # at once, not some time later
        assert re.search(r"aioshm, Python ring +[\d,.]+ us", bench.shown), bench.shown
        assert bench.shown.endswith("\ninterrupted\n")
        assert bench.errors == ""


def test_an_interrupt_from_the_keyboard_gives_the_terminal_back() -> None:
    with BenchCommand(*LONG, terminal=True) as bench:
        bench.wait_for(r"throughput-1, aioshm")
        os.write(bench.fd, b"\x03")
        assert bench.end() == 130
        shown = bench.shown
    assert "Traceback" not in shown
    assert "interrupted" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")


def test_an_interrupt_still_gives_one_json_object() -> None:
    with BenchCommand(*LONG, "--json") as bench:
        while "throughput-1, aioshm" not in bench.errors:
            assert bench.process.poll() is None
            os.sched_yield()
        bench.process.send_signal(signal.SIGTERM)
        assert bench.end() == 128 + signal.SIGTERM
        told = json.loads(bench.shown)
    assert told["interrupted"] is True
    assert told["ok"] is False


def test_processes_end_when_the_command_is_killed(runtime_folder: Path) -> None:
    with BenchCommand(*LONG, "--only", "throughput-8") as bench:
        while len(everybody := family(runtime_folder)) < 10:  # it, a child, eight readers
            assert bench.process.poll() is None
            os.sched_yield()
        bench.process.kill()
        assert bench.end() == -signal.SIGKILL
        wait_for_exit(everybody)
    for path in runtime_folder.glob("aioshm-bench-*"):  # nobody was left to remove it
        shutil.rmtree(path)


def case_of(contender: Contender) -> Case:
    """A case that has this contender."""
    return next(case for case in CASES if contender in case.contenders)


@pytest.mark.parametrize(
    "contender",
    [one for one in ALL if one not in FLOORS and one.version is not None],
    ids=lambda contender: contender.key,
)
async def test_whoever_is_measured_a_cancel_leaves_nothing(
    contender: Contender, runtime_folder: Path
) -> None:
    with isolated(runtime_folder), Bench(current_loop()) as bench:
        measuring = asyncio.create_task(bench.measure(case_of(contender), contender, HANG))
        await until(lambda: len(family(runtime_folder)) == 2)
        measuring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await measuring
        assert family(runtime_folder) == set()
