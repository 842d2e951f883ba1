"""The parts of ``aioshm demo``: what verifies, what judges, and who watches the children."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from aioshm import MessageQueue
from aioshm.cli.children import ChildFailed, Children
from aioshm.cli.demo.message import (
    Message,
    Verifier,
    library_lines,
    make,
    messages,
    stamped,
    time_of,
)
from aioshm.cli.demo.report import Report
from aioshm.cli.figures import listed, percentile
from aioshm.cli.screen import PlainScreen, open_screen
from tests.helpers import HANG, current_loop

CHILD = "aioshm.cli.demo.child"

# -- messages ---------------------------------------------------------------------------------


def seen(*shown: Message, first: int | None = 0) -> Verifier:
    """A verifier that saw these messages."""
    verifier = Verifier(first)
    for message in shown:
        verifier.see(message)
    return verifier


def test_a_whole_stream_is_verified() -> None:
    verifier = seen(*(make(number, b"line %d\n" % number) for number in range(100)))
    assert verifier.wrong == 0
    assert verifier.messages == 100
    assert verifier.nbytes == sum(len(b"line %d\n" % number) for number in range(100))


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((0, 2), "message 2 where 1 was expected"),
        ((0, 0), "message 0 where 1 was expected"),
        ((1,), "message 1 where 0 was expected"),
    ],
    ids=["a hole", "twice", "a late start"],
)
def test_a_wrong_number_is_caught(numbers: tuple[int, ...], problem: str) -> None:
    verifier = seen(*(make(number, b"line") for number in numbers))
    assert verifier.wrong == 1
    assert verifier.problems == [problem]


def test_a_wrong_checksum_is_caught() -> None:
    verifier = seen(make(0, b"line"), (1, crc32(b"line"), b"lime"), make(2, b"line"))
    assert verifier.wrong == 1
    assert verifier.problems[0].startswith("message 1: checksum")


def test_a_late_reader_may_begin_anywhere_and_must_go_on_from_there() -> None:
    assert seen(make(7, b""), make(8, b""), first=None).report()["first"] == 7
    assert seen(make(7, b""), make(9, b""), first=None).wrong == 1


def test_many_problems_are_counted_and_a_few_are_told() -> None:
    verifier = seen(*(make(0, b"again") for _ in range(1000)))
    assert verifier.wrong == 999
    assert len(verifier.problems) == 3


def test_the_lines_are_those_of_the_standard_library() -> None:
    lines = library_lines(1000)
    assert len(lines) == 1000
    begin = Path(os.__file__).with_name("__future__.py").read_bytes()
    assert b"".join(lines).startswith(begin)


def test_lines_come_over_and_over_and_numbers_do_not() -> None:
    stream = list(islice(messages([b"a\n", b"b\n"]), 5))
    assert [number for number, _, _ in stream] == [0, 1, 2, 3, 4]
    assert [line for _, _, line in stream] == [b"a\n", b"b\n", b"a\n", b"b\n", b"a\n"]
    assert seen(*stream).wrong == 0


def test_a_python_without_sources_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Python sources in"):
        library_lines(folder=str(tmp_path))


def test_a_stamped_payload_says_when_it_was_sent() -> None:
    assert time_of(stamped(1234567890123, b"line")) == 1234567890123


# -- the report -------------------------------------------------------------------------------


def new_report() -> Report:
    """A report with one passed check."""
    report = Report(readers=3, seconds=1.0, loop="asyncio")
    report.row("flood", "aioshm", "1 message/s")
    report.check("flood", "it was right", True, "never shown")
    return report


def test_when_all_is_well_the_exit_status_is_0() -> None:
    report = new_report()
    assert report.exit_status() == 0
    assert report.verdict() == ["all 1 checks passed"]
    assert report.as_json()["ok"] is True


def test_a_failed_check_is_named_and_the_exit_status_is_1() -> None:
    report = new_report()
    report.check("writer gone", "it was right", False, "it was wrong")
    assert report.exit_status() == 1
    assert report.verdict() == ["FAILED writer gone: it was right: it was wrong"]
    told = json.loads(json.dumps(report.as_json()))
    assert told["ok"] is False
    assert told["checks"][1] == {
        "act": "writer_gone", "name": "it was right", "ok": False, "detail": "it was wrong",
    }  # fmt: skip


def test_what_broke_is_named_and_the_exit_status_is_1() -> None:
    report = new_report()
    report.failure = "crash: the writer hangs"
    assert report.exit_status() == 1
    assert report.verdict() == ["FAILED crash: the writer hangs"]


def test_an_interrupt_gives_the_exit_status_of_its_signal() -> None:
    report = new_report()
    report.interrupted = signal.SIGINT
    assert report.exit_status() == 130
    assert report.verdict() == ["interrupted; 1 of 1 checks so far passed"]


@pytest.mark.parametrize(
    ("messages", "wrong", "ok"), [(9, 0, True), (8, 0, False), (10, 0, False), (9, 1, False)]
)
def test_a_reader_must_have_all_messages_and_all_of_them_right(
    messages: int, wrong: int, ok: bool
) -> None:
    report = new_report()
    said = {"messages": messages, "wrong": wrong, "problems": ["this one"] * wrong}
    report.check_reader("flood", "reader 0", said, 9)
    assert report.checks[-1].ok is ok


def test_a_percentile_is_one_of_the_values() -> None:
    values = list(range(100))
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [0, 50, 99, 99]
    assert percentile([7], 99) == 7


def test_few_figures_are_listed_and_many_are_summed_up() -> None:
    assert listed([0.25, 1.0, 0.5], ".1f") == "0.2 / 1.0 / 0.5"
    assert listed([3000, 1000, 2000, 4000, 5000], ",") == "1,000 to 5,000"


def test_the_plain_table_names_each_act_once() -> None:
    stream = io.StringIO()
    rows = [("flood", "aioshm", "1/s"), ("flood", "ratio", "2 times"), ("crash", "kill", "dead")]
    screen = PlainScreen(stream)
    screen.table(("act", "what", "value"), rows)
    screen.table(("nothing",), [])
    screen.verdict(["all 1 checks passed"], "good")
    assert stream.getvalue().splitlines() == [
        "",
        "act    what    value",
        "flood  aioshm  1/s",
        "       ratio   2 times",
        "crash  kill    dead",
        "",
        "all 1 checks passed",
    ]


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_screen(Terminal()), PlainScreen)
    assert isinstance(open_screen(io.StringIO()), PlainScreen)
    monkeypatch.setenv("TERM", "xterm")
    assert not isinstance(open_screen(Terminal()), PlainScreen)


# -- the children -----------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["flood", "crash", "writer_gone"])
async def test_a_reading_child_catches_what_is_wrong(act: str) -> None:
    line = b"import this\n"
    sent = [make(0, line), make(2, line), (3, crc32(line), b"import that\n"), make(4, line)]
    async with MessageQueue.create() as queue, Children(CHILD, current_loop()) as children:
        reader = children.start("reader")
        reader.be(act, "read", address=queue.export_handle().to_string(), rank=0)
        await queue.wait_until_ready(HANG)
        for message in sent:
            await queue.enqueue(message)
        await queue.aclose()
        if act == "crash":
            await reader.expect("joined")
        said = await reader.expect("done")
    report = new_report()
    report.check_reader(act, "reader", said, len(sent))
    assert said["wrong"] == 2
    assert "message 2 where 1 was expected" in report.checks[-1].detail
    assert "message 3: checksum" in report.checks[-1].detail
    assert report.exit_status() == 1


async def test_a_child_that_says_nothing_hangs() -> None:
    with pytest.raises(ChildFailed, match=r"mute \(pid \d+\) hangs: 0.2 s of silence where 'done'"):
        async with Children(CHILD, current_loop(), hang=0.2) as children:
            await children.start("mute").expect("done")


async def test_a_child_that_errs_is_quoted() -> None:
    with pytest.raises(ChildFailed, match=r"reader \(pid \d+\): ValueError: not an aioshm handle"):
        async with Children(CHILD, current_loop()) as children:
            reader = children.start("reader")
            reader.be("flood", "read", address="nowhere", rank=0)
            await reader.expect("done")


async def test_a_child_that_dies_is_told_to_whoever_waits_for_another() -> None:
    with pytest.raises(ChildFailed, match=r"first \(pid \d+\) ended by signal 9, not as planned"):
        async with Children(CHILD, current_loop()) as children:
            first, second = children.start("first"), children.start("second")
            os.kill(first.pid, signal.SIGKILL)
            await second.expect("done")


async def test_a_child_that_cannot_start_leaves_its_last_words() -> None:
    said = r"reader \(pid \d+\) ended with status 1, not as planned: .*KeyError"
    with pytest.raises(ChildFailed, match=said):
        async with Children(CHILD, current_loop()) as children:
            reader = children.start("reader")
            reader.do("be anything")
            await reader.expect("done")


async def test_a_killed_child_was_to_die() -> None:
    async with Children(CHILD, current_loop()) as children:
        child = children.start("child")
        child.kill()
        await child.gone()
        await children.sleep(0.01)


async def test_a_child_that_does_not_leave_is_killed_and_named() -> None:
    with pytest.raises(ChildFailed, match="stopped did not leave when told to"):
        async with Children(CHILD, current_loop(), hang=1.0) as children:
            child = children.start("stopped")
            os.kill(child.pid, signal.SIGSTOP)


async def test_leaving_early_ends_the_children_whatever_they_do() -> None:
    async def act() -> None:
        async with Children(CHILD, current_loop()) as children:
            writer = children.start("writer")
            writer.be("crash", "write", readers=2)
            said: dict[str, Any] = await writer.expect("here")
            assert said["address"]
            started.set_result(writer.pid)
            await children.sleep(HANG)

    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    acting = asyncio.create_task(act())
    pid = await started
    acting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acting
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
