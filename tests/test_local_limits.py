"""The local link survives forks, full descriptor tables and long paths, and can be forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aioshm import AdmissionRefused
from aioshm.links import hello, local
from aioshm.links.hello import Welcome
from tests.helpers import HANG, Child, Pipe, descriptors
from tests.links import TOKEN, FakeGuest, FakeHost, Stranger

pytestmark = pytest.mark.timeout(60)


@contextmanager
def no_descriptor_left(spare: int = 0) -> Iterator[None]:
    """Let this process open no (or few) further descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = []
    lowest = os.dup(0)
    os.close(lowest)
    highest = max(map(int, descriptors())) + 1
    try:
        while (filler := os.dup(0)) < highest:
            fillers.append(filler)
        os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)


def in_a_forked_child(check: object) -> int:
    """Fork, exit with what `check` gives; returns that."""
    assert callable(check)
    pid = os.fork()
    if not pid:
        signal.alarm(int(HANG))
        code = 99
        try:
            code = check()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_a_forked_child_keeps_no_descriptor_of_a_link() -> None:
    before = set(descriptors())
    with (
        FakeHost() as host,
        FakeGuest(host.server.path) as guest,
        Stranger(host.server.path) as stranger,
    ):
        await guest.start().answer()
        own = {str(fd) for fd in (*host.fds, *guest.fds, stranger.sock.fileno())}
        links = set(descriptors()) - before - own
        assert len(links) == 4  # the listener, both ends of a link, the accepted stranger
        assert in_a_forked_child(lambda: len(links & set(descriptors()))) == 0


async def test_a_link_of_the_parent_outlives_its_forked_children() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        await guest.start().answer()
        assert in_a_forked_child(lambda: 7) == 7
        host.server.broadcast(hello.READY)
        assert (await guest.count(2))[1] == "ready"
        with FakeGuest(host.server.path, 1) as another:
            assert isinstance(await another.start().answer(), Welcome)
        guest.client.close(goodbye=True)
        await host.until(lambda events: ("departed", True) in events)


async def test_a_forked_child_removes_no_socket_file() -> None:
    def closes(host: FakeHost) -> int:
        host.server.abandon()
        return int(not Path(host.server.path).is_socket())

    with FakeHost() as host:
        assert in_a_forked_child(lambda: closes(host)) == 0
        assert Path(host.server.path).is_socket()


async def test_a_child_forked_after_the_close_has_nothing_to_let_go_of() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        await guest.start().answer()
        guest.client.close()
        host.server.close()
        taken = os.open("/dev/null", os.O_RDONLY)
        assert in_a_forked_child(lambda: int(str(taken) not in descriptors())) == 0
        os.close(taken)


async def test_without_a_descriptor_for_a_connection_the_writer_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local, "_ACCEPT_AGAIN", 0.01)
    loop = asyncio.get_running_loop()

    def pauses() -> int:
        return sum("cannot admit readers" in record.message for record in caplog.records)

    with FakeHost(start=False) as host, FakeGuest(host.server.path) as guest:
        guest.start()
        with caplog.at_level(logging.WARNING, "aioshm"), no_descriptor_left():
            host.server.start(loop)
            async with asyncio.timeout(HANG):
                while pauses() < 3:
                    await asyncio.sleep(0.001)
            assert guest.events == []
        assert isinstance(await guest.answer(), Welcome)


async def test_a_pause_does_not_spin(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local, "_ACCEPT_AGAIN", 1000.0)
    with FakeHost(start=False) as host, FakeGuest(host.server.path) as guest:
        guest.start()
        with caplog.at_level(logging.WARNING, "aioshm"), no_descriptor_left():
            host.server.start(asyncio.get_running_loop())
            for _ in range(100):
                await asyncio.sleep(0)
        assert sum("cannot admit" in record.message for record in caplog.records) == 1


async def test_a_writer_that_closes_in_a_pause_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "_ACCEPT_AGAIN", 0.001)
    with FakeHost(start=False) as host, FakeGuest(host.server.path) as guest:
        guest.start()
        with no_descriptor_left():
            host.server.start(asyncio.get_running_loop())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        host.server.close()
        await asyncio.sleep(0.01)
        assert host.events == []


async def test_a_reader_without_a_descriptor_left_is_told_so() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        with no_descriptor_left():
            error = await guest.start().answer()
        assert isinstance(error, AdmissionRefused)
        assert "cannot reach the writer" in str(error)


async def test_a_reader_with_too_few_descriptors_for_a_welcome_is_told_so() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        with no_descriptor_left(spare=4):
            error = await guest.start().answer()
        assert isinstance(error, AdmissionRefused)
        assert "of 4 descriptors" in str(error)
        assert guest.fds == []


async def test_a_hello_that_waits_while_the_loop_is_busy_is_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "_HELLO_WITHIN", 0.02)
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        guest.start()
        while not host.server._strangers:
            await asyncio.sleep(0)
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline:
            pass  # the loop is kept from the hello, which is there
        assert isinstance(await guest.answer(), Welcome)


async def test_a_link_with_a_long_path_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        assert len(host.server.path) > 200
        assert isinstance(await guest.start().answer(), Welcome)
    assert not Path(host.server.path).exists()


async def test_a_link_does_not_keep_its_owner_alive() -> None:
    host = FakeHost()
    server, gone = host.server, weakref.ref(host)
    fds = host.fds
    guest = FakeGuest(server.path)
    await guest.start().answer()
    del host
    gc.collect()
    assert gone() is None
    with FakeGuest(server.path, 1) as late:
        late.start()
        server.close()
        await guest.count(2)
        assert guest.events[1:] == ["gone"]
        await late.answer()
    guest.__exit__(None, None, None)
    for fd in fds:
        os.close(fd)


async def knock_and_wait(pipe: Pipe, path: str) -> None:
    """Say hello by hand, and wait to be killed."""
    with Stranger(path) as stranger:
        stranger.sock.send(hello.pack_hello(0, os.getpid(), TOKEN))
        pipe.send("knocked")
        await pipe.receive()


async def test_a_reader_that_was_gone_before_it_was_let_in_has_exited_too() -> None:
    with FakeHost(start=False) as host, Child(knock_and_wait, host.server.path) as child:
        assert await child.receive() == "knocked"
        await child.kill()
        host.server.start(asyncio.get_running_loop())
        assert await host.count(3) == [("admit", 0), ("departed", False), "exited"]
        assert not host.server._admitted
