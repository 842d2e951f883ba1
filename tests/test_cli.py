"""The ``aioshm`` command: its arguments, and what it says about them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aioshm.cli.main import main
from aioshm.cli.version import version
from tests.helpers import HANG, ROOT


def test_without_a_command_it_prints_its_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: aioshm" in err
    assert "demo" in err
    assert "bench" in err


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"aioshm {version()}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["trio"], "invalid choice: 'trio'"),
        (["demo", "more"], "unrecognized arguments: more"),
        (["demo", "--readers", "1"], "1 where 2 to 64 were expected"),
        (["demo", "--readers", "65"], "65 where 2 to 64 were expected"),
        (["demo", "--readers", "few"], "invalid number of readers value: 'few'"),
        (["demo", "--seconds", "0"], "0 where above 0 and up to 3600 were expected"),
        (["demo", "--seconds", "-1"], "-1 where above 0 and up to 3600 were expected"),
        (["demo", "--seconds", "nan"], "nan where above 0 and up to 3600 were expected"),
        (["demo", "--seconds", "inf"], "inf where above 0 and up to 3600 were expected"),
        (["demo", "--seconds", "long"], "invalid number of seconds value: 'long'"),
        (["demo", "--loop", "trio"], "invalid choice: 'trio'"),
        (["bench", "--rounds", "0"], "0 where 1 to 1000 were expected"),
        (["bench", "--rounds", "few"], "invalid number of rounds value: 'few'"),
        (["bench", "--seconds", "nan"], "nan where above 0 and up to 3600 were expected"),
        (["bench", "--only", "thruput"], "'thruput' is in none of these: throughput-1, "),
        (["bench", "--only"], "expected at least one argument"),
        (["bench", "--plot", "out.png"], "'out.png' is no FILE.svg in a folder to write to"),
        (["bench", "--plot", "/nowhere/out.svg"], "is no FILE.svg in a folder to write to"),
    ],
)
def test_bad_usage_is_told_and_exits_with_2(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("demo", "flood trickle crash gone --readers --seconds --loop --json"),
        ("bench", "--quick --only --rounds --seconds --loop --json --plot throughput-8 pip"),
    ],
)
def test_help_says_what_a_command_shows(command: str, words: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "aioshm", command, "--help"],
        capture_output=True,
        cwd=ROOT,
        timeout=HANG,
        text=True,
        check=False,
    )
    assert run.returncode == 0
    assert run.stderr == ""
    assert run.stdout.startswith(f"usage: aioshm {command}")
    for word in [*words.split(), "Exit status"]:
        assert word in run.stdout
