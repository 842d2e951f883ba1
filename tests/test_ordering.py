"""A fence never blocks, every machine gets the right one, and a shared word is never torn."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from aioshm import fence, fence_implementation, ring_implementation
from aioshm.shm import choice, ordering
from aioshm.shm.ordering import load, load_acquire, load_flags, store, store_release
from tests.helpers import HANG, Child, Pipe

ONES = 2**64 - 1
FLIP, STOP = 16, 32  # indices of words, each on a line of its own


def reload(
    monkeypatch: pytest.MonkeyPatch, machine: str, library: Any = None, extension: Any = None
) -> ModuleType:
    """Import a second ordering.py as if on another machine, with another libatomic or C ring."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(ctypes, "PyDLL", library)
    monkeypatch.setattr(choice, "extension", extension)
    spec = importlib.util.spec_from_file_location("ordering_elsewhere", ordering.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FakeAtomic:
    """A libatomic that notes what is called in which state of a word."""

    def __init__(self, calls: list[Any], word: memoryview) -> None:
        def atomic_thread_fence(order: int) -> None:
            calls.append((order, word[0]))

        self.atomic_thread_fence: Callable[[int], None] = atomic_thread_fence


class NotingWord:
    """A word that notes its accesses."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def __getitem__(self, index: int) -> int:
        self.calls.append("load")
        return 5

    def __setitem__(self, index: int, value: int) -> None:
        self.calls.append("store")


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the functions of an x86-64 machine without a C ring."""
    return reload(monkeypatch, "x86_64")


def test_many_threads_may_fence_at_once(locks: ModuleType) -> None:
    failed: list[BaseException] = []

    def fences() -> None:
        try:
            for _ in range(20_000):
                fence()
                locks.fence()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=fences, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert not any(thread.is_alive() for thread in threads)
    assert failed == []


def test_an_interrupt_inside_a_fence_spoils_no_later_one(locks: ModuleType) -> None:
    locks._acquire(False)  # as a KeyboardInterrupt between its two halves leaves it
    locks.fence()
    locks.fence()
    assert not locks._lock.locked()


def test_a_fence_works_in_a_child_forked_in_the_middle_of_one(locks: ModuleType) -> None:
    locks._acquire(False)
    pid = os.fork()
    if not pid:
        signal.alarm(int(HANG))
        locks.fence()
        os._exit(42)
    locks.fence()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_this_machine_names_its_fence() -> None:
    python = "lock" if platform.machine() == "x86_64" else "libatomic"
    assert fence_implementation() == ("c11" if ring_implementation() == "c" else python)


def test_without_a_c_ring_x86_64_fences_by_a_lock(locks: ModuleType) -> None:
    assert locks.fence_implementation() == "lock"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_where_the_c_ring_runs_any_machine_has_its_fence(
    monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    calls: list[Any] = []
    extension = SimpleNamespace(fence=lambda: calls.append("fence"))
    module = reload(monkeypatch, machine, missing, extension)
    module.fence()
    assert calls == ["fence"]
    assert module.fence_implementation() == "c11"


def test_another_machine_fences_by_libatomic(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    word = memoryview(bytearray(8)).cast("Q")
    module = reload(monkeypatch, "aarch64", lambda name: FakeAtomic(calls, word))
    module.fence()
    seq_cst = 5
    assert calls == [(seq_cst, 0)]
    assert module.fence_implementation() == "libatomic"


def test_another_machine_fences_after_an_acquire(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    module = reload(monkeypatch, "aarch64", lambda name: FakeAtomic([], memoryview(b"\0")))
    monkeypatch.setattr(module, "fence", lambda: calls.append("fence"))
    assert module.load_acquire(NotingWord(calls), 0) == 5
    assert calls == ["load", "fence"]


def test_another_machine_fences_before_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    module = reload(monkeypatch, "aarch64", lambda name: FakeAtomic([], memoryview(b"\0")))
    monkeypatch.setattr(module, "fence", lambda: calls.append("fence"))
    module.store_release(NotingWord(calls), 0, 1)
    assert calls == ["fence", "store"]


def test_without_any_fence_importing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(ImportError, match=r"aarch64 without libatomic.*install libatomic1"):
        reload(monkeypatch, "aarch64", missing)


@pytest.mark.parametrize("value", [0, 1, 2**32, 2**63, ONES])
def test_a_word_holds_what_was_stored(value: int) -> None:
    words = memoryview(bytearray(24)).cast("Q")
    store(words, 1, value)
    assert load(words, 1) == load_acquire(words, 1) == value
    store_release(words, 2, value)
    assert words.tolist() == [0, value, value]


def test_flags_are_stored_singly_and_read_as_a_row() -> None:
    flags = memoryview(bytearray(8))[2:6]
    store(flags, 1, 1)
    store(flags, 3, 255)
    assert load(flags, 3) == 255
    assert load_flags(flags) == b"\0\1\0\xff"


async def flip(pipe: Pipe, path: str) -> None:
    """Store no bits and all bits in turn until told to stop; say how often."""
    fd = os.open(path, os.O_RDWR)
    words = memoryview(mmap.mmap(fd, mmap.PAGESIZE)).cast("Q")
    os.close(fd)
    pipe.send("begins")
    count = 0
    while not load_acquire(words, STOP):
        store(words, FLIP, ONES)
        store_release(words, FLIP, 0)
        count += 1
    pipe.send(count)


async def test_a_word_that_another_process_flips_is_never_seen_half_stored() -> None:
    fd = os.memfd_create("words")
    os.ftruncate(fd, mmap.PAGESIZE)
    with mmap.mmap(fd, mmap.PAGESIZE) as shared:
        view = memoryview(shared)
        words = view.cast("Q")
        seen, changes, last = set(), 0, 0
        with Child(flip, str(Path(f"/proc/{os.getpid()}/fd/{fd}"))) as child:
            assert await child.receive() == "begins"
            deadline = time.monotonic() + HANG
            while changes < 300 and time.monotonic() < deadline:
                for _ in range(1000):
                    now = load_acquire(words, FLIP) if changes % 2 else load(words, FLIP)
                    changes += now != last
                    seen.add(now)
                    last = now
            store_release(words, STOP, 1)
            assert await child.receive() > 0
            await child.join()
        words.release()
        view.release()
    os.close(fd)
    assert changes >= 300
    assert seen == {0, ONES}
