"""What the machine does not give: paths, folders, memory, descriptors, and sane numbers."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aioshm import AdmissionRefused, Handle, MessageQueue, MessageTooLarge
from tests.helpers import HANG, Child, Pipe, descriptors, mappings, pair, until
from tests.test_local_limits import no_descriptor_left
from tests.trouble.cases import case

SMALL: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 1 << 14, 1 << 18


async def read_one(pipe: Pipe, handle: Handle) -> None:
    """Read a message and report it."""
    async with MessageQueue.create_from_handle(handle, 0) as queue:
        pipe.send(await queue.dequeue(HANG))


@case(10)
async def test_long_path(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    async with MessageQueue.create() as queue:
        assert len(queue.handle.path) > 250
        with Child(read_one, queue.handle) as reader:
            await queue.enqueue("through a long path", timeout=HANG)
            assert await reader.receive() == "through a long path"
            await reader.join()
    assert list((deep / "aioshm").iterdir()) == []


async def pair_as(pipe: Pipe, uid: int, runtime: str | None, temporary: str) -> None:
    """As this user with these directories, make a queue, use it, and report where it met."""
    os.setuid(uid)
    if runtime is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = runtime
    tempfile.tempdir = temporary
    writer, reader = await pair()
    async with writer, reader:
        await writer.enqueue("there")
        assert await reader.dequeue(HANG) == "there"
        pipe.send(writer.handle.path)


@pytest.fixture
def anybodys_path() -> Iterator[Path]:
    """A folder that every user can enter.

    Not pytest's: one run of it shuts out other users again while another one is under way.
    """
    with tempfile.TemporaryDirectory(prefix="aioshm-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@case(11, "unset", "missing", "not writable", "owned by another", "shared with others")
async def test_runtime_directory(how: str, anybodys_path: Path) -> None:
    assert os.geteuid() == 0, "this test gives up root, so it has to be run as root"
    runtime, temporary = anybodys_path / "run", anybodys_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    if how != "missing":
        runtime.mkdir(mode=0o500 if how == "not writable" else 0o700)
        os.chown(runtime, *(0, 0) if how == "owned by another" else (65534, 65534))
    if how == "shared with others":
        (runtime / "aioshm").mkdir()
        os.chown(runtime / "aioshm", 65534, 65534)
        (runtime / "aioshm").chmod(0o755)
    asked = None if how == "unset" else str(runtime)
    with Child(pair_as, 65534, asked, str(temporary)) as child:
        if how == "shared with others":
            with pytest.raises(PermissionError, match="mode 0755 where 0700.*chmod 700"):
                await child.receive()
            await child.join(expect=1)
        else:
            assert (await child.receive()).startswith(f"{temporary}/aioshm-65534/queue-")
            await child.join()


async def write_with_little_shm(pipe: Pipe) -> None:
    """Shrink this process's /dev/shm to 1 MiB, then write three messages of 2 MiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.unshare(_CLONE_NEWNS)
        or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        or libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=1m")
    ):
        raise AssertionError(
            f"this test mounts a small /dev/shm and may not: {os.strerror(ctypes.get_errno())}; "
            "run it as root with CAP_SYS_ADMIN"
        )
    there = os.statvfs("/dev/shm")
    assert there.f_blocks * there.f_frsize == 1 << 20
    async with MessageQueue.create() as queue:
        pipe.send(queue.handle)
        for number in range(3):
            await queue.enqueue(bytes([number]) * ((2 << 20) - 100), timeout=HANG)
        assert os.listdir("/dev/shm") == []


@case(12)
async def test_little_shm(how: str) -> None:
    with Child(write_with_little_shm) as child:
        async with MessageQueue.create_from_handle(await child.receive(), 0) as reader:
            for number in range(3):
                assert await reader.dequeue(HANG) == bytes([number]) * ((2 << 20) - 100)
        await child.join()


@case(13, "at create", "at attach", "in mid-admission")
async def test_no_descriptors(how: str) -> None:
    said = await _WITH_FEW[how](range(12))
    # From none left to plenty: first it fails, and from some number on it works.
    works = said.index("works")
    assert works > 0
    assert set(said[works:]) == {"works"}
    assert all(re.search(_FAILURES[how], text) for text in said[:works]), said


_FAILURES = {
    "at create": "Too many open files",
    "at attach": "reader rank 0 of .*(Too many open files|brought . of 4 .*ulimit)",
    "in mid-admission": "reader rank 0 of .*(to let it in: is its loop|writer has no descriptor)",
}


async def _create(spares: Iterable[int]) -> list[str]:
    said = []
    for spare in spares:
        before, mapped = descriptors(), mappings()
        try:
            with no_descriptor_left(spare):
                queue = MessageQueue.create(**SMALL)
        except OSError as error:
            said.append(str(error))
        else:
            await queue.aclose()
            said.append("works")
        assert (descriptors(), mappings()) == (before, mapped)
    return said


async def _attach(spares: Iterable[int]) -> list[str]:
    said = []
    async with MessageQueue.create(**SMALL) as writer:
        with Child(attach_with_few, writer.handle, spares) as child:
            for _ in spares:
                said.append(await child.receive())
                await until(lambda: not writer.stats().readers)
                async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
                    await reader.wait_until_ready(HANG)
                await until(lambda: not writer.stats().readers)
                child.send("again")
            await child.join()
    return said


async def attach_with_few(pipe: Pipe, handle: Handle, spares: Iterable[int]) -> None:
    """Join with so few descriptors each, and report how that went."""
    for spare in spares:
        before = descriptors()
        try:
            async with MessageQueue.create_from_handle(handle, 0) as queue:
                with no_descriptor_left(spare):
                    await queue.wait_until_ready(HANG)
        except AdmissionRefused as error:
            said = str(error)
        else:
            said = "works"
        assert descriptors() == before
        pipe.send(said)
        pipe.receive_blocking()


async def _admit(spares: Iterable[int]) -> list[str]:
    said = []
    with Child(admit_with_few, spares) as child:
        for _ in spares:
            handle = await child.receive()
            try:
                async with MessageQueue.create_from_handle(handle, 0) as reader:
                    await reader.wait_until_ready(0.2)
            except (AdmissionRefused, TimeoutError) as error:
                said.append(str(error))
            else:
                said.append("works")
            child.send("now there are enough")
            assert await child.receive() == "enough"
            async with MessageQueue.create_from_handle(handle, 0) as reader:
                await reader.wait_until_ready(HANG)
                assert await reader.dequeue(HANG) == "all is well"
        await child.join()
    return said


async def admit_with_few(pipe: Pipe, spares: Iterable[int]) -> None:
    """Make queues and admit with so few descriptors each until told, then with enough."""
    loop = asyncio.get_running_loop()
    for spare in spares:
        async with MessageQueue.create(**SMALL) as queue:
            pipe.send(queue.handle)
            told = loop.create_future()
            loop.add_reader(pipe.fileno(), told.set_result, None)
            with no_descriptor_left(spare):
                await told
            loop.remove_reader(pipe.fileno())
            pipe.receive_blocking()
            await until(lambda: not queue.stats().readers)
            pipe.send("enough")
            await until(lambda: queue.stats().readers)
            await queue.enqueue("all is well", timeout=HANG)


_WITH_FEW = {"at create": _create, "at attach": _attach, "in mid-admission": _admit}


@case(14, "at create", "in calls")
async def test_absurd_numbers(how: str) -> None:
    if how == "at create":
        for options, error in ABSURD:
            with pytest.raises(error, match="expected|mapped|this machine has"):
                MessageQueue.create(**options)
        return
    writer, reader = await pair(**SMALL)
    async with writer, reader:
        for nbytes, wrong in (
            (-1, ValueError),
            (4097, MessageTooLarge),
            (1 << 70, MessageTooLarge),
        ):
            with pytest.raises(wrong, match=str(nbytes)):
                async with writer.acquire_write(nbytes):
                    pass
        for timeout in (0, -1, -1e300):
            with pytest.raises(TimeoutError):
                await reader.dequeue(timeout)
        async with writer.acquire_write(0):
            pass
        assert await reader.dequeue(1e300) == b""
        await asyncio.sleep(0)


ABSURD: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"n_reader": 0}, ValueError),
    ({"n_reader": -1}, ValueError),
    ({"n_reader": 10**9}, ValueError),
    ({"n_reader": 2.0}, TypeError),
    ({"n_reader": True}, TypeError),
    ({"n_reader": 2, "local_reader_ranks": [1]}, ValueError),
    ({"n_reader": 2, "local_reader_ranks": [1, 1]}, ValueError),
    ({"n_reader": 1, "local_reader_ranks": [-1]}, ValueError),
    ({"n_reader": 1, "local_reader_ranks": [1 << 31]}, ValueError),
    ({"max_chunk_bytes": 0}, ValueError),
    ({"max_chunk_bytes": -5}, ValueError),
    ({"max_chunk_bytes": 1 << 60}, ValueError),
    ({"max_chunk_bytes": 1.5}, TypeError),
    ({"max_chunk_bytes": 1 << 42}, OSError),
    ({"max_chunks": 0}, ValueError),
    ({"max_chunks": 1}, ValueError),
    ({"max_chunks": 1 << 60}, ValueError),
    ({"on_reader_death": "ignore"}, ValueError),
    ({"evict_after": 0}, ValueError),
    ({"evict_after": -1}, ValueError),
    ({"evict_after": float("nan")}, ValueError),
    ({"warn_after": 0}, ValueError),
    ({"name": "../escape"}, ValueError),
    ({"name": ""}, ValueError),
]
