"""The example with a reader on another machine, on one machine and on two."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.networks import Cable
from tests.test_examples import program

EXAMPLE = str(ROOT / "examples" / "remote_readers.py")


def lines(rank: int, steps: int) -> list[str]:
    """What a reader prints."""
    return [
        f"rank {rank} got {{'step': {step}, 'tokens': [{step}, {step}, {step}]}}"
        for step in range(1, steps + 1)
    ]


def test_it_runs_on_one_machine() -> None:
    with program("-W", "error", EXAMPLE) as it:
        assert sorted(it.rest().splitlines()) == lines(0, 5) + lines(1, 5)
        assert it.process.returncode == 0


@pytest.mark.parametrize("address", ["IPv4", "IPv6", "by the routing table"])
def test_it_runs_on_two_machines(address: str, tmp_path: Path) -> None:
    file = tmp_path / "handle.txt"
    with Cable() as cable:
        command = ["-W", "error", EXAMPLE, "write", str(file), "--steps=200"]
        expected = f"tcp://{cable.near.ip4}:"
        if address == "IPv4":
            command += ["--ip", cable.near.ip4]
        elif address == "IPv6":
            command += ["--ip", cable.near.ip6]
            expected = f"tcp://[{cable.near.ip6}]:"
        with program(*command, prefix=cable.near.prefix) as writer:
            line = writer.wait_for_line("listening at (.*), handle in")
            assert line[1].startswith(expected)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            with program(
                "-W", "error", EXAMPLE, "read", str(file), prefix=cable.far.prefix
            ) as reader:
                assert reader.rest().splitlines() == lines(1, 200)
                assert reader.process.returncode == 0
            assert writer.rest().splitlines() == lines(0, 200)
            assert writer.process.returncode == 0
        assert not file.exists()


def test_a_reader_that_cannot_reach_the_writer_says_why_and_may_try_again(tmp_path: Path) -> None:
    file = tmp_path / "handle.txt"
    command = ("-W", "error", EXAMPLE, "read", str(file))
    with Cable() as cable:
        writing = ("-W", "error", EXAMPLE, "write", str(file))
        with program(*writing, prefix=cable.near.prefix) as writer:
            address = writer.wait_for_line("listening at (.*), handle in")[1]
            cable.cut()
            with program(*command, prefix=cable.far.prefix) as reader:
                output = reader.rest()
                assert output.startswith("rank 1: ")
                assert address in output
                assert len(output.splitlines()) == 1
                assert reader.process.returncode == 1
            cable.mend()
            with program(*command, prefix=cable.far.prefix) as reader:
                assert reader.rest().splitlines() == lines(1, 5)
                assert reader.process.returncode == 0
            assert writer.rest().splitlines() == lines(0, 5)
