"""Every test on both loops, in a socket folder of its own, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from aioshm.shm import ring_reader, ring_writer
from tests.helpers import children, descriptors, mappings


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the folders below; pytest hears of them only from here.

    The conftest.py of a sub-folder is read too late when `pytest` runs without arguments.
    """
    parser.addoption(
        "--model-depth",
        choices=("ci", "long"),
        default="ci",
        help="bounds of the memory-model checker: those of every change, or hours",
    )
    for what, count in (("messages", 20_000), ("mutations", 10_000), ("turns", 20_000)):
        parser.addoption(
            f"--ring-{what}",
            type=int,
            default=count,
            help=f"{what} in the longest test of each pairing of rings (default {count})",
        )
    parser.addoption(
        "--stress-scale", type=float, default=1.0, help="factor on the counts of tests/stress"
    )
    parser.addoption(
        "--remote-scale", type=float, default=1.0, help="factor on the counts of tests/remote"
    )
    for what in ("stress", "remote"):
        parser.addoption(
            f"--{what}-seed",
            type=int,
            default=random.SystemRandom().randrange(1 << 32),
            help=f"repeat the random choices of an earlier run of tests/{what}",
        )


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test twice."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def warm_loop() -> None:
    """Have libuv open the pipe it keeps for the life of the process."""
    uvloop.new_event_loop().close()


@pytest.fixture(scope="module", autouse=True)
def frozen_heap() -> None:
    """Spare each test's collections what stays anyway: modules, and what pytest keeps of tests.

    By the end of a run a collection that goes through all that takes longer than most tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give each test a runtime directory of its own, inherited by the processes it starts."""
    folder = Path(tempfile.mkdtemp(prefix="aioshm-test-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def python_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all ends, here and in children, run on the Python ring.

    For what happens between two accesses to memory, where a test can get in there alone.
    """
    monkeypatch.setenv("AIOSHM_RING", "python")
    monkeypatch.setattr("aioshm.ends.admitting.RingWriter", ring_writer.RingWriter)
    monkeypatch.setattr("aioshm.ends.reader.RingReader", ring_reader.RingReader)


@pytest.fixture(autouse=True)
def nothing_left_behind(runtime_folder: Path) -> Iterator[None]:
    """Fail a test that leaves a descriptor, a process, a socket file or a mapping."""
    gc.collect()
    before_fds, before_maps, before_children = descriptors(), mappings(), children()
    yield
    # A process that was told to end, or a mapping in a traceback, may need a moment.
    deadline = time.monotonic() + 5
    while True:
        gc.collect()
        left = {
            "descriptors": sorted(set(descriptors().items()) - set(before_fds.items())),
            "mappings": sorted(mappings() - before_maps),
            "processes": sorted(children() - before_children),
            "socket files": sorted(
                str(path) for path in runtime_folder.rglob("*") if not path.is_dir()
            ),
        }
        if not any(left.values()) or time.monotonic() > deadline:
            break
        os.sched_yield()
    assert not any(left.values()), f"left behind: {left}"
