"""Peers that are two, slow, stopped, dead, replaced, elsewhere or of another version."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import socket
import time
from typing import Any

import pytest

from aioshm import (
    AdmissionRefused,
    AioshmError,
    Handle,
    MessageQueue,
    QueueFull,
    ReaderDied,
    WriterDied,
)
from aioshm.links import flow_wire
from tests.helpers import HANG, Child, Pipe, until
from tests.overflows import read_to_the_end
from tests.remote.cases import case
from tests.remote.wires import RawReader, RawWriter, spent_handle
from tests.remotes import LATE, SOON, consumed, fill, gathered, read_all, remote_queue

BRIEF = 2.0
"""Seconds of `peer_timeout` where a stop of half of it is to be survived."""


@case(6, "another session", "the same session", "the same session, an old connection")
async def test_the_same_rank_twice(how: str) -> None:
    async with remote_queue(1, peer_timeout=2 * HANG) as writer:
        if how == "another session":
            async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
                await reader.wait_until_ready(HANG)
                for _ in range(3):
                    async with MessageQueue.create_from_handle(writer.handle, 0) as second:
                        with pytest.raises(AdmissionRefused, match=r"rank 0 .*taken"):
                            await second.dequeue(HANG)
                        with pytest.raises(AdmissionRefused):
                            await second.wait_until_ready(HANG)
                    await writer.enqueue("undisturbed")
                    assert await reader.dequeue(HANG) == "undisturbed"
            return
        with RawReader(writer.handle) as first, RawReader(writer.handle) as second:
            await first.join(connection=3)
            await writer.enqueue("one")
            await first.receive_to(1)
            if how == "the same session":
                # The reader is heard on its latest connection, and goes on there.
                assert await second.join(connection=4) == (0, 0)
                heard, other = second, first
                await heard.receive_to(1)
            else:
                second.send(second.hello(connection=2))
                heard, other = first, second
            await writer.enqueue("two")
            await heard.receive_to(2)
            heard.send(heard.ack(2))
            await consumed(writer)
            while not other.silent():
                assert not isinstance(await other.receive(), flow_wire.Data)
            other.send(other.ack(1))  # late, and not wrong
            await writer.enqueue("three")
            await heard.receive_to(3)
            assert len(writer.stats().readers) == 1
            assert writer.stats().remote.breaches == 0
        writer.evict(0)


async def never_read(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Join, and stay."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        await pipe.receive()
        pipe.send(await read_all(queue))


@case(7, "that never reads", "frozen", "killed")
async def test_a_reader(how: str) -> None:
    options: dict[str, Any] = {"max_chunk_bytes": 4096, "max_chunks": 2}
    options["peer_timeout"] = BRIEF if how == "frozen" else SOON
    async with remote_queue(2, **options) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as good,
            Child(never_read, queue.handle, 1) as bad,
        ):
            await queue.wait_until_ready(HANG)
            assert await good.receive() == await bad.receive() == "ready"
            began = time.monotonic()
            if how == "frozen":
                bad.signal(signal.SIGSTOP)
            elif how == "killed":
                await bad.kill()
            accepted = await fill(queue)
            with pytest.raises(QueueFull, match=rf"rank 1 \(pid {bad.pid}\)"):
                queue.enqueue_nowait((accepted, bytes(1000)))
            if how == "killed":
                waiting = queue.enqueue((accepted, bytes(1000)), timeout=HANG)
                with pytest.raises(ReaderDied, match=rf"rank 1 \(pid {bad.pid}\)"):
                    await waiting
                assert time.monotonic() - began < LATE
                queue.evict(1)
            elif how == "frozen":
                await asyncio.sleep(BRIEF / 2)  # longer than it takes to notice the silence
                bad.signal(signal.SIGCONT)
                bad.send("read")
            else:
                await asyncio.sleep(3 * SOON)  # a reader that lives is not dead
                assert queue.stats().dead == ()
                bad.send("read")
            for number in range(accepted, accepted + 30):
                await queue.enqueue((number, bytes(1000)), timeout=HANG)
            await queue.aclose(HANG)
            expected = ([(n, bytes(1000)) for n in range(accepted + 30)], "QueueShutDown")
            assert await good.receive() == expected
            await good.join()
            if how != "killed":
                assert await bad.receive() == expected
                await bad.join()


async def write_when_told(pipe: Pipe, peer_timeout: float) -> None:
    """Write so many messages each time that one is told to, none to close."""
    async with remote_queue(peer_timeout=peer_timeout) as queue:
        pipe.send(queue.handle)
        number = 0
        while count := await pipe.receive():
            for _ in range(count):
                await queue.enqueue(number)
                number += 1
        await queue.aclose(HANG)


@case(
    8,
    "killed",
    "frozen",
    "frozen for less than peer_timeout",
    "its port taken over by a stranger",
    "its port taken over by silence",
)
async def test_a_writer(how: str) -> None:
    brief = how == "frozen for less than peer_timeout"
    with Child(write_when_told, BRIEF if brief else SOON) as writer:
        handle = await writer.receive()
        async with MessageQueue.create_from_handle(handle, 0) as reader:
            writer.send(100)
            for number in range(100):
                assert await reader.dequeue(HANG) == number
            began = time.monotonic()
            if brief:
                writer.signal(signal.SIGSTOP)
                with pytest.raises(TimeoutError):
                    await reader.dequeue(timeout=BRIEF / 2)
                writer.signal(signal.SIGCONT)
                writer.send(100)
                for number in range(100, 200):
                    assert await reader.dequeue(HANG) == number
                writer.send(0)
                assert await read_all(reader) == ([], "QueueShutDown")
                await writer.join()
                return
            if how == "frozen":
                writer.signal(signal.SIGSTOP)
            else:
                await writer.kill()
            port = int(handle.address.rpartition(":")[2])
            if how == "its port taken over by a stranger":
                with RawWriter(port) as stranger:
                    await writer_is_gone(reader, writer.pid, began)
                    assert stranger.silent()
            elif how == "its port taken over by silence":
                with socket.create_server(("127.0.0.1", port), backlog=100):
                    await writer_is_gone(reader, writer.pid, began)
            else:
                await writer_is_gone(reader, writer.pid, began)


async def writer_is_gone(reader: Any, pid: int, began: float) -> None:
    """Look that the reader hears of it in time, and what its last message was."""
    with pytest.raises(WriterDied, match=r"message 99\b") as caught:
        await reader.dequeue(HANG)
    assert time.monotonic() - began < LATE
    assert caught.value.pid == pid


@case(12, "no route", "no route over IPv6", "refused", "name that does not resolve")
async def test_an_address_where_nobody_is(how: str) -> None:
    if how == "name that does not resolve":
        nowhere = "no-such-host.invalid"
        with pytest.raises(OSError, match="connect_ip.*does not resolve"):
            MessageQueue.create(2, 1, connect_ip=nowhere)
        with pytest.raises(OSError, match="bind_ip.*does not resolve"):
            MessageQueue.create(2, 1, bind_ip=nowhere)
        return
    handle = await spent_handle(peer_timeout=SOON)
    if how != "refused":
        # Addresses for documentation: who answers there, if anybody, is no writer.
        address = "198.51.100.7" if how == "no route" else "[2001:db8::7]"
        handle = dataclasses.replace(handle, address=f"tcp://{address}:5555")
    async with MessageQueue.create_from_handle(handle, 0) as reader:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="to let it in"):
            await reader.wait_until_ready(timeout=0)
        with pytest.raises(WriterDied) as caught:
            await reader.dequeue(HANG)
        assert SOON * 0.9 < time.monotonic() - began < LATE
        assert handle.address in str(caught.value)
        if how == "refused":
            assert "refused" in str(caught.value)


@case(13, "its string", "its frames, at the writer", "its frames, at a reader")
async def test_a_handle_of_another_version(how: str) -> None:
    if how == "its string":
        async with remote_queue() as writer:
            text = writer.handle.to_string()
        assert text.startswith("aioshm2.")
        for version in (1, 3, 99):
            with pytest.raises(AdmissionRefused, match=f"version {version} .*same aioshm"):
                Handle.from_string(text.replace("aioshm2.", f"aioshm{version}.", 1))
    elif how == "its frames, at the writer":
        async with gathered(1) as (writer, (reader,)):
            with RawReader(writer.handle, 0, 5) as other:
                other.send(of_version_1(other.hello(9)))
                await until(lambda: writer.stats().remote.breaches == 1)
                assert other.silent()
            await writer.enqueue("undisturbed")
            assert await reader.dequeue(HANG) == "undisturbed"
    else:
        handle = await spent_handle(peer_timeout=SOON)
        with RawWriter() as raw:
            async with MessageQueue.create_from_handle(raw.handle(handle), 0) as reader:
                reading = asyncio.create_task(reader.dequeue(HANG))
                began = time.monotonic()
                await raw.greeted()
                raw.send(of_version_1(flow_wire.pack_welcome(flow_wire.Welcome(raw.tag(), (0, 0)))))
                raw.send(*map(of_version_1, raw.data(0, "never read")))
                with pytest.raises(AioshmError) as caught:
                    await reading
                assert isinstance(caught.value, WriterDied)
                assert "another version" in str(caught.value)
                assert time.monotonic() - began < LATE


def of_version_1(frame: bytes) -> bytes:
    """The same frame as an older aioshm would have begun it."""
    magic = flow_wire._MAGIC
    return frame.replace(magic, magic[:-1] + b"\1", 1)
