"""Who wants in and may not: wrong secrets, ranks, versions, users, and noise."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import os
import random
import secrets
import signal
import string
from pathlib import Path

import pytest

from aioshm import AdmissionRefused, Handle, MessageQueue, Reader, WriterDied
from aioshm.links import hello
from aioshm.links.folder import folder, sweep
from tests.helpers import HANG, Child, Pipe, descriptors, pair, until
from tests.links import Stranger
from tests.trouble.cases import case


async def serve(pipe: Pipe, fork: bool) -> None:
    """A writer that reports its handle, and then the pid of a forked child if it has one."""
    async with MessageQueue.create(name="steps") as queue:
        pipe.send(queue.handle)
        if fork and not os.fork():
            pipe.send(os.getpid())  # its fork hooks have run
            signal.pause()
        await asyncio.sleep(HANG)


async def refused(reader: Reader, error: type[Exception], match: str) -> None:
    """Look that every call of a reader says so, also the second time."""
    async with reader:
        with pytest.raises(error, match=match):
            await reader.wait_until_ready(HANG)
        with pytest.raises(error, match=match):
            await reader.dequeue(HANG)
        with pytest.raises(error, match=match):
            reader.dequeue_nowait()
        with pytest.raises(error, match=match):
            async with reader.acquire_read(HANG):
                pass


async def get_in(handle: Handle) -> None:
    """Look that the right one still gets in."""
    async with MessageQueue.create_from_handle(handle, 0) as reader:
        await reader.wait_until_ready(HANG)


@case(1)
async def test_wrong_token(how: str) -> None:
    async with MessageQueue.create(name="steps") as writer:
        for token in (secrets.token_hex(32), "00" * 32):
            forged = dataclasses.replace(writer.handle, token=token)
            reader = MessageQueue.create_from_handle(forged, 0)
            who = rf"reader rank 0 of queue 'steps' \(pid {os.getpid()}\)"
            await refused(reader, AdmissionRefused, f"{who}: wrong token.*export_handle")
        assert writer.stats().readers == ()
        await get_in(writer.handle)


@case(2, "by its own handle", "by a forged handle")
async def test_unknown_rank(how: str) -> None:
    async with MessageQueue.create(2, local_reader_ranks=[3, 5], name="steps") as writer:
        if how == "by its own handle":
            for rank in (0, 4, -1, 2**70, True, "3", None):
                with pytest.raises(ValueError, match=r"rank .* queue 'steps', .* ranks \[3, 5\]"):
                    MessageQueue.create_from_handle(writer.handle, rank)  # type: ignore[arg-type]
            return
        forged = dataclasses.replace(writer.handle, ranks=(3, 4))
        reader = MessageQueue.create_from_handle(forged, 4)
        await refused(reader, AdmissionRefused, r"reader rank 4 .*no local rank 4; .*\[3, 5\]")


@case(3)
async def test_taken_rank(how: str) -> None:
    writer, reader = await pair()
    async with writer:
        async with reader:
            second = MessageQueue.create_from_handle(writer.handle, 0)
            text = rf"reader rank 0 .*rank 0 is taken by pid {os.getpid()}; evict it or choose"
            await refused(second, AdmissionRefused, text)
            await writer.enqueue("for the first")
            assert await reader.dequeue(HANG) == "for the first"
        await until(lambda: not writer.stats().readers)
        await get_in(writer.handle)


@case(4)
async def test_dead_writer(how: str) -> None:
    with Child(serve, False) as writer:
        handle = await writer.receive()
        await writer.kill()
    reader = MessageQueue.create_from_handle(handle, 0)
    await refused(reader, WriterDied, r"reader rank 0 .*nobody admits.*get a fresh handle")
    sweep(folder())


@case(5)
async def test_dead_writer_with_a_living_child(how: str) -> None:
    with Child(serve, True) as writer:
        handle = await writer.receive()
        async with MessageQueue.create_from_handle(handle, 0) as reader:
            await reader.wait_until_ready(HANG)
            grandchild = await writer.receive()
            await writer.kill()
            with pytest.raises(WriterDied, match=rf"\(pid {writer.pid}\) died"):
                await reader.dequeue(HANG)
            late = MessageQueue.create_from_handle(handle, 0)
            await refused(late, WriterDied, "nobody admits readers.*get a fresh handle")
        os.kill(grandchild, signal.SIGKILL)
    sweep(folder())


@case(6, "another version", "truncated", "garbage", "no string", "another writer's version")
async def test_broken_handle(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with MessageQueue.create() as writer:
        text = writer.handle.to_string()
        if how == "another version":
            for version in (0, 1, 999):
                with pytest.raises(AdmissionRefused, match=f"version {version} .* same aioshm at"):
                    Handle.from_string(text.replace("aioshm2", f"aioshm{version}"))
        elif how == "truncated":
            for length in range(len(text)):
                with pytest.raises(ValueError, match="not an aioshm handle|not a whole aioshm"):
                    Handle.from_string(text[:length])
        elif how == "garbage":
            source = random.Random(6)
            for _ in range(500):
                noise = "".join(source.choices(string.printable, k=source.randrange(300)))
                packed = base64.urlsafe_b64encode(source.randbytes(source.randrange(300))).decode()
                for garbage in (noise, f"aioshm2.{noise}", f"aioshm2.{packed}"):
                    with pytest.raises(ValueError, match="not an? .*aioshm handle"):
                        Handle.from_string(garbage)
        elif how == "no string":
            for thing in (None, b"aioshm2.", 3):
                with pytest.raises(TypeError, match="is the environment variable set"):
                    Handle.from_string(thing)  # type: ignore[arg-type]
                with pytest.raises(TypeError, match="Handle.from_string"):
                    MessageQueue.create_from_handle(thing, 0)  # type: ignore[arg-type]
        else:
            with monkeypatch.context() as patch:
                patch.setattr(hello, "WIRE_VERSION", hello.WIRE_VERSION + 1)
                reader = MessageQueue.create_from_handle(writer.handle, 0)
            await refused(reader, AdmissionRefused, "speaks version 3, the writer's version 2")
        await get_in(Handle.from_string(text))


@case(7, "instead of a hello", "behind the magic", "after admission")
async def test_noise(how: str) -> None:
    source = random.Random(7)
    async with MessageQueue.create() as writer:
        token = bytes.fromhex(writer.handle.token)
        greeting = hello.pack_hello(0, os.getpid(), token)
        before = len(descriptors())
        for _ in range(100):
            with Stranger(writer.handle.path) as stranger:
                noise = source.randbytes(source.randrange(1, 4000))
                if how == "instead of a hello":
                    stranger.sock.send(noise)
                    assert await stranger.receive() == b""
                elif how == "behind the magic":
                    stranger.sock.send((greeting[:12] + noise)[: source.randrange(12, 300)])
                    assert await stranger.receive() in (b"", hello.pack_refusal(wrong()))
                else:
                    stranger.sock.send(greeting)
                    assert hello.unpack_welcome(await stranger.receive())
                    for _ in range(10):
                        stranger.sock.send(b"?" + noise)
                    stranger.sock.send(hello.GOODBYE)
            await until(lambda: not writer.stats().readers and len(descriptors()) == before)
        await get_in(writer.handle)


def wrong() -> str:
    """Say how a wrong token is refused."""
    said = hello.unpack_hello(hello.pack_hello(0, 0, bytes(32)), b"x" * 32)
    assert isinstance(said, str)
    return said


async def connect_and_stay_silent(pipe: Pipe, path: str, count: int) -> None:
    """Connect so many times, say nothing, and wait until the writer closes."""
    with contextlib.ExitStack() as stack:
        strangers: list[Stranger] = []
        while len(strangers) < count:
            try:
                strangers.append(stack.enter_context(Stranger(path)))
            except BlockingIOError:
                await asyncio.sleep(0.001)  # the backlog is full
        pipe.send("silent")
        assert {await stranger.receive() for stranger in strangers} == {hello.CLOSED}


@case(8)
async def test_silence(how: str) -> None:
    async with MessageQueue.create() as writer:
        with Child(connect_and_stay_silent, writer.handle.path, 200) as silent:
            assert await silent.receive() == "silent"
            async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
                await reader.wait_until_ready(HANG)
                await writer.enqueue("undisturbed")
                assert await reader.dequeue(HANG) == "undisturbed"
            await writer.aclose()  # test_local.py shows that it also drops them by itself
            await silent.join()


async def knock_as_nobody(pipe: Pipe, handle: Handle) -> None:
    """Give up root, then try to get in with the right handle."""
    os.setuid(65534)
    try:
        async with MessageQueue.create_from_handle(handle, 0) as queue:
            await queue.wait_until_ready(HANG)
    except AdmissionRefused as error:
        pipe.send(str(error))


@case(9)
async def test_another_user(how: str, runtime_folder: Path) -> None:
    assert os.geteuid() == 0, "this test gives up root, so it has to be run as root"
    async with MessageQueue.create() as writer:
        with Child(knock_as_nobody, writer.handle) as stranger:
            # The folder alone keeps it out.
            assert "Permission denied" in await stranger.receive()
            await stranger.join()
        for path in (runtime_folder, runtime_folder / "aioshm", Path(writer.handle.path)):
            path.chmod(0o777)
        with Child(knock_as_nobody, writer.handle) as stranger:
            said = await stranger.receive()
            assert f"reader rank 0 of queue 'queue' (pid {stranger.pid})" in said
            assert "user 65534 is not the writer's user 0" in said
            await stranger.join()
        await get_in(writer.handle)
