"""The parts of ``aioshm bench``: what verifies, what sums up, what judges, what draws."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from aioshm import PickleCodec
from aioshm.cli.bench import plot, targets
from aioshm.cli.bench.contenders import (
    AIOSHM,
    ALL,
    EVENTFD,
    ICEORYX,
    MP_PIPE,
    PICKLE,
    REMOTE,
    ZMQ_IPC,
    ZMQ_XPUB,
)
from aioshm.cli.bench.family import cpu_of
from aioshm.cli.bench.floors import Bells, memcpy_alone, pickle_alone
from aioshm.cli.bench.payload import KINDS, SMALL, Payload, Verifier
from aioshm.cli.bench.plan import CASES, SIZES, choose
from aioshm.cli.bench.results import Results
from aioshm.cli.bench.work import latency
from tests.helpers import HANG, ROOT

OURS = AIOSHM[0]
CASE = {case.key: case for case in CASES}

# -- payloads ---------------------------------------------------------------------------------


def sent(payload: Payload, number: int) -> Any:
    """A message as it arrives."""
    return pickle.loads(pickle.dumps(payload.make(number), 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [SMALL & ~7, *SIZES.values()])
def test_a_whole_stream_is_verified(kind: str, size: int) -> None:
    payload = Payload(kind, size)
    verifier = Verifier(payload)
    for number in range(40):
        verifier.see(sent(payload, number))
    assert verifier.report() == {"messages": 40, "wrong": 0, "problems": []}
    assert size - 8 <= payload.encoded() <= size + 200


def test_the_small_dict_is_as_small_as_it_says() -> None:
    (frame,) = PickleCodec().encode(Payload("dict", SMALL).make(1000))
    assert SMALL - 8 <= len(frame) <= SMALL  # its numbers are longer or shorter


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", [(0, 2), (0, 0), (1,)], ids=["a hole", "twice", "a late start"])
def test_a_wrong_number_is_caught(kind: str, numbers: tuple[int, ...]) -> None:
    payload = Payload(kind, 64)
    verifier = Verifier(payload)
    for number in numbers:
        verifier.see(sent(payload, number))
    assert verifier.report()["wrong"] == 1


@pytest.mark.parametrize("size", SIZES.values())
def test_a_changed_byte_is_caught(size: int) -> None:
    payload = Payload("bytes", size)
    for number in (0, 16):  # of these the checksum is of all
        for place in (0, size // 2 + 1, size - 1):
            found, crc, body = payload.make(number)
            changed = bytearray(body)
            changed[place] ^= 1
            assert payload.right(number, (found, crc, bytes(body)))
            assert not payload.right(number, (found, crc, bytes(changed)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_body_of_an_earlier_message_is_caught(kind: str) -> None:
    payload = Payload(kind, 1 << 20)
    first, second = payload.make(1), payload.make(2)
    mixed = {**second, "text": first["text"]} if kind == "dict" else (*second[:2], first[2])
    assert payload.right(2, second)
    assert not payload.right(2, mixed)


def test_something_else_than_a_message_is_caught_and_few_problems_are_told() -> None:
    verifier = Verifier(Payload("bytes", 64))
    for _ in range(10):
        verifier.see("hello")
    report = verifier.report()
    assert report["wrong"] == 10
    assert len(report["problems"]) == 3


# -- results ----------------------------------------------------------------------------------


def figures(value: float, **more: Any) -> dict[str, Any]:
    """What one measurement gives."""
    return {"value": value, "sent": 5, "readers": [{"messages": 5, "wrong": 0}], **more}


def trip(*times_us: int) -> dict[str, Any]:
    """What a round trip of these times gives."""
    return {**latency([0, *(time * 1000 for time in times_us)]), "parks": 0.5, **figures(0),
        "value": float(sorted(times_us)[len(times_us) // 2])
    }  # fmt: skip


def measured() -> Results:
    """Some cases of a run of three rounds."""
    results = Results([CASE["throughput-1"], CASE["throughput-8"], CASE["roundtrip-parked"]])
    for value in (900.0, 1000.0, 1700.0):
        results.add(CASE["throughput-1"], OURS, figures(value, mb_per_s=1.0))
        results.add(CASE["throughput-1"], ZMQ_IPC, figures(value / 10, mb_per_s=0.1))
        results.add(CASE["throughput-1"], PICKLE, figures(value * 2))
        results.add(CASE["throughput-8"], OURS, figures(value, mb_per_s=1.0))
        results.add(CASE["throughput-8"], ZMQ_XPUB, figures(value / 4, mb_per_s=1.0))
        results.add(CASE["roundtrip-parked"], OURS, trip(60, 70, 80))
        results.add(CASE["roundtrip-parked"], EVENTFD, trip(40, 50, 60))
    return results


def test_medians_spread_and_ratios() -> None:
    told = {case["case"]: case for case in json.loads(json.dumps(measured().as_json()))}
    ours = told["throughput-1"]["results"][OURS.key]
    assert (ours["median"], ours["min"], ours["max"]) == (1000.0, 900.0, 1700.0)
    assert ours["times_better"] == {"zmq-ipc": 10.0, "pickle": 0.5}
    assert told["throughput-1"]["results"]["zmq-ipc"]["times_better"] == {}
    trips = told["roundtrip-parked"]["results"]
    assert trips[OURS.key]["times_better"] == {"eventfd": 50 / 70}
    headings, rows = measured().rows()
    assert all(len(row) == len(headings) for row in rows)
    assert "1,000 /s" in rows[0]
    assert "900 to 1,700" in rows[0]


def test_wrong_or_missing_messages_are_a_failure_and_no_figure() -> None:
    results = Results([CASE["throughput-1"]])
    missing = {"value": 1.0, "sent": 5, "readers": [{"messages": 4, "wrong": 0, "problems": []}]}
    wrong = {"messages": 5, "wrong": 1, "problems": ["message 3 is another one"]}
    results.add(CASE["throughput-1"], OURS, missing)
    results.add(CASE["throughput-1"], MP_PIPE, {"value": 1.0, "sent": 5, "readers": [wrong]})
    assert results.rows()[1] == []
    assert "reader 0 got 0 wrong: 4 messages where 5 were sent" in results.failures[0]
    assert "reader 0 got 1 wrong: message 3 is another one" in results.failures[1]


def test_the_first_round_trip_and_the_warm_up_are_not_counted() -> None:
    times = [10**9, *[10**6] * 10, *[50_000] * 90]
    assert latency(times)["value"] == 50.0
    assert sum(latency(times)["histogram"].values()) == 90
    assert latency([5000])["value"] == 5.0


def test_targets_are_judged_where_both_sides_were_measured() -> None:
    verdicts = {verdict.what: verdict for verdict in targets.judge(measured())}
    one = verdicts["1 writer, 1 reader, messages/s"]
    assert (one.measured, one.target, one.met) == (10.0, ">= 5x", True)
    eight = verdicts["1 writer, 8 readers, messages/s"]
    assert (eight.measured, eight.target, eight.met) == (4.0, ">= 5x", False)
    parked = verdicts["round trip p50, from parked"]
    assert (parked.measured, parked.target, parked.met) == (1.4, "<= 1.5x", True)
    assert set(verdicts) == {one.what, eight.what, parked.what}
    rows = targets.rows([one, eight])
    assert [row[-1] for row in rows] == ["met", "MISSED"]


def test_a_figure_that_stands_alone_is_judged_or_reported() -> None:
    results = Results([CASE["cpu-idle"], CASE["roundtrip-2ms"]])
    results.add(CASE["cpu-idle"], OURS, figures(0.2, writer_percent=0.0, messages_per_s=0.0))
    results.add(CASE["cpu-idle"], ZMQ_IPC, figures(0.0, writer_percent=0.0, messages_per_s=0.0))
    results.add(CASE["roundtrip-2ms"], OURS, trip(100, 200, 300))
    trips, idle = targets.judge(results)
    assert (idle.measured_text, idle.target, idle.met) == ("0.2 %", "<= 0.1 %", False)
    assert (trips.measured_text, trips.target, trips.met) == ("200 us", "reported", None)
    # Next to nothing there is no ratio; JSON has no infinity either.
    json.dumps(results.as_json(), allow_nan=False)


# -- the picture ------------------------------------------------------------------------------


def test_the_picture_has_the_panels_that_were_measured() -> None:
    results = measured()
    results.add(CASE["roundtrip-awake"], OURS, trip(10, 20, 1000))
    root = ElementTree.fromstring(plot.draw(results, "on <this> machine"))
    texts = [text.text or "" for text in root.findall("{*}text")]
    assert "messages/s by readers, small dict" in texts
    assert "round trips not longer than, both awake" in texts
    assert not any("by size" in text for text in texts)
    assert OURS.name in texts
    assert "on <this> machine" in texts
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for circle in root.findall("{*}circle"):
        assert 0 < float(circle.get("cx", -1)) < width
        assert 0 < float(circle.get("cy", -1)) < height


def test_a_picture_of_nothing_is_a_picture() -> None:
    assert ElementTree.fromstring(plot.draw(Results([]), "nothing")).tag.endswith("svg")


# -- the plan, the floors and the processes ------------------------------------------------------


def test_the_quick_cases_are_some_of_all_and_only_chooses() -> None:
    assert choose(False, []) == list(CASES)
    assert [case.key for case in choose(True, ["throughput-1", "cpu-idle"])] == [
        "throughput-1", "cpu-idle",
    ]  # fmt: skip
    assert 0 < len(choose(True, [])) < len(CASES)
    with pytest.raises(LookupError, match=r"'thruput' is in none of these: throughput-1, "):
        choose(False, ["cpu", "thruput"])


def test_names_are_told_apart_and_everybody_takes_part_somewhere() -> None:
    assert len({case.key for case in CASES}) == len(CASES)
    assert len({contender.key for contender in ALL}) == len(ALL)
    assert {contender for case in CASES for contender in case.contenders} == set(ALL)
    assert all({OURS, REMOTE} & set(case.contenders) for case in CASES)
    assert ICEORYX.version


def test_the_floors_are_measured() -> None:
    payload = Payload("numpy", 1 << 16)
    assert pickle_alone(payload, 0.01) > 0
    assert memcpy_alone(payload, 0.01) > 0


def test_bells_answer_until_told_to_end() -> None:
    bells = Bells()
    pid = os.fork()
    if not pid:
        bells.pong()
        os._exit(0)
    times = bells.ping(0.02, 0.001)
    assert os.waitpid(pid, 0)[1] == 0
    assert 0 < len(times) <= 20
    bells.close()


def test_the_cpu_of_another_process_is_seen() -> None:
    spin = "import sys, time\nwhile time.process_time() < 0.2: pass\n"
    spin += "print(flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        (used,) = cpu_of([process.pid])
    assert 0.2e9 <= used < HANG * 1e9


def test_a_child_that_is_told_nothing_leaves() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aioshm.cli.bench.child"],
        stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT, timeout=HANG, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_a_process_that_dies_before_its_fork_returns_is_named() -> None:
    script = """
import os, signal, time
from aioshm.cli.bench.family import Family

real = os.fork
def fork():
    pid = real()
    if pid:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid
os.fork = fork
family = Family(lambda event, text: print(event, text, flush=True))
family.fork("reader 0", lambda: time.sleep(60))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=ROOT, timeout=HANG, text=True
    )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"error reader 0 \(pid \d+\) ended by signal 9\n", done.stdout)
