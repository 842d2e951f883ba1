"""The local link lets in whom it should, and each half hears of the other's end once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from aioshm import AdmissionRefused, QueueShutDown, WriterDied
from aioshm.links import hello, local
from aioshm.links.hello import Welcome
from tests.helpers import Child, Pipe
from tests.links import TOKEN, FakeGuest, FakeHost, Stranger

pytestmark = pytest.mark.timeout(60)


async def knock(pipe: Pipe, path: str, manner: str) -> None:
    """Join, and then leave in one of several manners when told to."""
    with FakeGuest(path) as guest:
        guest.start()
        assert isinstance(await guest.answer(), Welcome)
        pipe.send("joined")
        await pipe.receive()
        if manner == "goodbye":
            guest.client.close(goodbye=True)
        elif manner == "hang up":
            guest.client.close()
        if manner in ("goodbye", "hang up"):
            pipe.send("left")
            await pipe.receive()


def inherit(sock: socket.socket) -> int:
    """Start a process that holds a socket and does nothing; returns its pid."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    return subprocess.Popen(sleeper, pass_fds=[sock.fileno()]).pid


async def knock_and_let_another_hold_the_socket(pipe: Pipe, path: str) -> None:
    """Join by hand, and pass the socket on to a process that outlives this one."""
    with Stranger(path) as stranger:
        stranger.sock.send(hello.pack_hello(0, os.getpid(), TOKEN))
        await stranger.receive()
        pipe.send(inherit(stranger.sock))
        await pipe.receive()
        os._exit(0)


# -- getting in ----------------------------------------------------------------------


async def test_a_reader_with_the_token_gets_in() -> None:
    with FakeHost() as host, FakeGuest(host.server.path, rank=1) as guest:
        welcome = await guest.start().answer()
        assert welcome == Welcome(1000, 1152, 8, 64, 1, 640, 10, 0, os.getpid())
        assert host.events == [("admit", 1)]
        assert guest.client.pid == os.getpid()


async def test_the_descriptors_arrive_in_order() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        await guest.start().answer()
        for number, fd in enumerate(host.fds, 1):
            os.eventfd_write(fd, number)
        assert [os.eventfd_read(fd) for fd in guest.fds] == [1, 2, 3, 4]


async def test_a_reader_may_knock_before_the_writer_runs() -> None:
    with FakeHost(start=False) as host, FakeGuest(host.server.path) as guest:
        guest.start()
        await asyncio.sleep(0)
        assert guest.events == []
        host.server.start(asyncio.get_running_loop())
        assert isinstance(await guest.answer(), Welcome)


async def test_ready_reaches_all_who_joined() -> None:
    with (
        FakeHost() as host,
        FakeGuest(host.server.path, 0) as one,
        FakeGuest(host.server.path, 1) as other,
    ):
        await one.start().answer()
        await other.start().answer()
        host.server.broadcast(hello.READY)
        assert (await one.count(2))[1] == "ready"
        assert (await other.count(2))[1] == "ready"


async def test_a_wrong_token_is_refused_and_the_host_never_asked() -> None:
    with FakeHost() as host, FakeGuest(host.server.path, token=bytes(32)) as guest:
        error = await guest.start().answer()
        assert isinstance(error, AdmissionRefused)
        assert "wrong token" in str(error)
        assert host.events == []


async def test_a_taken_rank_is_refused_with_the_hosts_reason() -> None:
    with (
        FakeHost() as host,
        FakeGuest(host.server.path, 1) as first,
        FakeGuest(host.server.path, 1) as second,
    ):
        await first.start().answer()
        error = await second.start().answer()
        assert isinstance(error, AdmissionRefused)
        assert str(error) == "rank 1 is taken"


async def test_another_version_is_refused_and_told_both(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHost() as host:
        with monkeypatch.context() as patch:
            patch.setattr(hello, "WIRE_VERSION", 3)
            guest = FakeGuest(host.server.path)
        with guest:
            error = await guest.start().answer()
            assert isinstance(error, AdmissionRefused)
            assert "version 3, the writer's version 2" in str(error)


async def test_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        error = await guest.start().answer()
        assert isinstance(error, AdmissionRefused)
        assert f"user {me} is not the writer's user {me + 1}" in str(error)
        assert host.events == []


async def test_where_nobody_listens_the_writer_is_dead() -> None:
    with FakeHost() as host:
        path = host.server.path
    with FakeGuest(path) as guest:
        assert isinstance(await guest.start().answer(), WriterDied)


async def test_a_dead_writers_socket_file_says_so_too() -> None:
    with FakeHost() as host:
        os.link(host.server.path, f"{host.server.path}-left")
        left = f"{host.server.path}-left"
    with FakeGuest(left) as guest:
        assert isinstance(await guest.start().answer(), WriterDied)
    os.unlink(left)


async def test_a_writer_that_ends_before_it_answers_is_dead() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("\0aioshm-test-silent")
        listener.listen()
        with FakeGuest("\0aioshm-test-silent") as guest:
            guest.start()
            listener.accept()[0].close()
            error = await guest.answer()
    assert isinstance(error, WriterDied)
    assert error.pid == os.getpid()


@pytest.mark.parametrize("packet", [b"?", b"W", b"HTTP/1.1 400 Bad Request", hello.READY])
async def test_what_is_no_writer_is_refused_by_the_reader(packet: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("\0aioshm-test-other")
        listener.listen()
        with FakeGuest("\0aioshm-test-other") as guest:
            guest.start()
            with listener.accept()[0] as sock:
                sock.send(packet)
                error = await guest.answer()
    assert isinstance(error, AdmissionRefused)
    assert "no aioshm writer" in str(error)


async def test_a_welcome_without_its_descriptors_is_refused_and_none_is_kept() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        os.close(host.fds[-1])
        host.fds = host.fds[:-1]
        error = await guest.start().answer()
        assert isinstance(error, AdmissionRefused)
        assert "3 of 4 descriptors" in str(error)
        assert guest.fds == []


# -- strangers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * hello.LARGEST,
        b"x" * 100_000,
        hello.pack_hello(0, 1, TOKEN)[:-1],
        hello.GOODBYE,
    ],
    ids=["http", "large", "larger", "cut", "goodbye"],
)
async def test_who_says_something_else_is_dropped_without_a_word(packet: bytes) -> None:
    with FakeHost() as host, Stranger(host.server.path) as stranger:
        stranger.sock.send(packet)
        assert await stranger.receive() == b""
        with FakeGuest(host.server.path) as guest:
            assert isinstance(await guest.start().answer(), Welcome)
        assert host.events[:1] == [("admit", 0)]


async def test_who_says_nothing_is_dropped_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_HELLO_WITHIN", 0.02)
    with FakeHost() as host, Stranger(host.server.path) as stranger:
        assert await stranger.receive() == b""
        assert host.events == []


async def test_who_joined_in_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_HELLO_WITHIN", 0.1)
    with (
        FakeHost() as host,
        FakeGuest(host.server.path) as guest,
        Stranger(host.server.path) as late,
    ):
        await guest.start().answer()
        assert await late.receive() == b""  # which came later, so its time ended later
        host.server.broadcast(hello.READY)
        assert (await guest.count(2))[1:] == ["ready"]


async def test_who_comes_and_goes_disturbs_nobody() -> None:
    with FakeHost() as host:
        for _ in range(50):
            Stranger(host.server.path).sock.close()
            await asyncio.sleep(0)
        with FakeGuest(host.server.path) as guest:
            assert isinstance(await guest.start().answer(), Welcome)


async def test_a_hundred_silent_strangers_keep_nobody_out() -> None:
    with FakeHost() as host:
        strangers: list[Stranger] = []
        for _ in range(100):
            strangers.append(Stranger(host.server.path))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with FakeGuest(host.server.path) as guest:
            assert isinstance(await guest.start().answer(), Welcome)
        for stranger in strangers:
            stranger.sock.close()


async def test_descriptors_that_a_stranger_sends_are_closed() -> None:
    with FakeHost() as host, Stranger(host.server.path) as stranger:
        ours, theirs = os.pipe()
        socket.send_fds(stranger.sock, [b"?"], [theirs])
        os.close(theirs)
        assert await stranger.receive() == b""
        assert os.read(ours, 1) == b""  # the end of the pipe: no other end is open
        os.close(ours)


async def test_a_full_backlog_is_knocked_at_again() -> None:
    with FakeHost(start=False) as host:
        strangers: list[Stranger] = []
        with suppress(BlockingIOError):
            while len(strangers) < 1000:
                strangers.append(Stranger(host.server.path))
        assert 16 <= len(strangers) < 1000
        with FakeGuest(host.server.path) as guest:
            guest.start()
            assert guest.events == []
            assert guest.client.pid == 0
            host.server.start(asyncio.get_running_loop())
            assert isinstance(await guest.answer(), Welcome)
        for stranger in strangers:
            stranger.sock.close()


# -- ends ------------------------------------------------------------------------------


async def test_a_goodbye_is_told_from_an_end_without_one() -> None:
    for goodbye in (True, False):
        with FakeHost() as host, FakeGuest(host.server.path) as guest:
            await guest.start().answer()
            guest.client.close(goodbye=goodbye)
            assert (await host.count(2))[1:] == [("departed", goodbye)]


async def test_a_reader_that_left_hears_nothing_more() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        await guest.start().answer()
        guest.client.close(goodbye=True)
        guest.client.close(goodbye=True)
        await host.count(2)
        host.server.close()
        await asyncio.sleep(0)
        assert guest.events[1:] == []


async def test_a_reader_hears_of_the_writers_end_once() -> None:
    with FakeHost() as host, FakeGuest(host.server.path) as guest:
        await guest.start().answer()
        host.server.close()
        assert (await guest.count(2))[1:] == ["gone"]
        host.server.close()
        await asyncio.sleep(0)
        assert guest.events[1:] == ["gone"]
        assert host.events == [("admit", 0)]


async def test_closing_tells_who_waits_to_be_let_in() -> None:
    with FakeHost() as host, Stranger(host.server.path) as accepted:
        with FakeGuest(host.server.path) as first:
            await first.start().answer()  # and the stranger before it was accepted
        with FakeGuest(host.server.path) as waiting:
            waiting.start()
            host.server.close(goodbye=True)
            assert isinstance(await waiting.answer(), QueueShutDown)
        assert await accepted.receive() == hello.CLOSED


async def test_closing_removes_the_socket_file() -> None:
    with FakeHost() as host:
        assert os.path.exists(host.server.path)
        host.server.close()
        assert not os.path.exists(host.server.path)


@pytest.mark.parametrize("manner", ["goodbye", "hang up"])
async def test_a_reader_that_leaves_and_lives_on_has_not_exited(manner: str) -> None:
    with FakeHost() as host, Child(knock, host.server.path, manner) as child:
        assert await child.receive() == "joined"
        child.send("go")
        assert await child.receive() == "left"
        goodbye = manner == "goodbye"
        assert (await host.count(2))[1:] == [("departed", goodbye)]
        child.send("exit")
        await child.join()
        if not goodbye:
            assert (await host.count(3))[2:] == ["exited"]


async def test_a_reader_that_is_killed_has_departed_and_exited() -> None:
    with FakeHost() as host, Child(knock, host.server.path, "") as child:
        assert await child.receive() == "joined"
        child.signal(signal.SIGKILL)
        assert (await host.count(3))[1:] == [("departed", False), "exited"]
        await child.join(-signal.SIGKILL)


async def test_an_exit_shows_although_another_process_holds_the_socket() -> None:
    with FakeHost() as host:
        path = host.server.path
        with Child(knock_and_let_another_hold_the_socket, path) as child:
            heir = await child.receive()
            try:
                child.send("exit")
                assert (await host.count(3))[1:] == [("departed", False), "exited"]
            finally:
                os.kill(heir, signal.SIGKILL)
