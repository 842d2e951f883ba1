"""Noise on the port, and peers that have the keys but not the manners."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any

import pytest

from aioshm import Handle, MessageQueue, Reader, Writer
from aioshm.links import flow_wire
from aioshm.links.flow_remote import FAREWELL
from aioshm.links.flow_wire import PIECE, Goodbye, Refused, State, Welcome
from tests.helpers import HANG, descriptors, until
from tests.remote.cases import case
from tests.remote.wires import RawReader, RawWriter, spent_handle
from tests.remotes import LOOPBACK, consumed, gathered, remote_queue

NOISES = 60
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00"


async def one_noise(source: random.Random, kind: str, port: int, held: list[Any]) -> None:
    """Make one connection and do with it what no reader would."""
    sock = socket.create_connection((LOOPBACK, port), HANG)
    held.append(sock)
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        if kind == "port scanner":
            sock.close()
        elif kind == "random bytes":
            sock.send(source.randbytes(source.randrange(1, 100_000)))
        elif kind == "HTTP":
            sock.send(b"GET / HTTP/1.1\r\nHost: there\r\n\r\n")
        elif kind != "silence":
            greeting = GREETING + kind.encode().ljust(20, b"\0") + bytes(32)
            sock.send(greeting + source.randbytes(source.randrange(1000)))
    await asyncio.sleep(0)


@case(4, "port scanner", "silence", "random bytes", "HTTP", "NULL", "PLAIN", "CURVE")
async def test_noise_during_traffic(how: str) -> None:
    source = random.Random(how)
    async with gathered(2, 1) as (writer, readers):
        await writer.enqueue("warm")
        for reader in readers:
            await reader.dequeue(HANG)
        port = int(writer.handle.address.rpartition(":")[2])
        before = len(descriptors())
        held: list[Any] = []
        done = asyncio.Event()

        async def noise() -> None:
            for _ in range(NOISES):
                await one_noise(source, how, port, held)
            done.set()

        async def write() -> int:
            number = 0
            while not done.is_set() or number < 500:
                await writer.enqueue((number, bytes(source.randrange(2000))), timeout=HANG)
                number += 1
                await asyncio.sleep(0)
            await writer.enqueue(None)
            return number

        async def read(reader: Reader) -> int:
            number = 0
            while (got := await reader.dequeue(HANG)) is not None:
                assert got[0] == number
                number += 1
            return number

        async with asyncio.timeout(2 * HANG):
            _, total, *read_by = await asyncio.gather(noise(), write(), *map(read, readers))
        assert read_by == [total] * 2
        for sock in held:
            sock.close()
        await until(lambda: len(descriptors()) <= before)
        assert [peer.rank for peer in writer.stats().readers] == [0, 1]


# -- a reader with the right keys ----------------------------------------------------------


async def _truncated(writer: Writer, raw: RawReader) -> None:
    raw.send(raw.ack(1)[:-1])
    await until(lambda: writer.stats().remote.breaches == 1)


async def _oversized(writer: Writer, raw: RawReader) -> None:
    raw.send(raw.ack(1) + bytes(flow_wire.LARGEST_TO_WRITER))


async def _reordered(writer: Writer, raw: RawReader) -> None:
    raw.send(raw.ack(1))
    await until(lambda: writer.stats().remote.waiting == 0)
    raw.send(raw.ack(0))
    await until(lambda: writer.stats().remote.breaches == 1)


async def _replayed(writer: Writer, raw: RawReader) -> None:
    raw.send(raw.hello())
    with RawReader(writer.handle, 1) as copy:
        for part in (raw.hello(), raw.ack(0), raw.hello(), raw.ack(0)):
            copy.send(part)
        with RawReader(writer.handle, 1, 99) as last:  # whatever came before was heard then
            last.send(last.hello())
            assert isinstance(await last.receive(), Refused)
        assert copy.silent()
    assert writer.stats().remote.breaches == 0


async def _wrong_rank(writer: Writer, raw: RawReader) -> None:
    with RawReader(writer.handle, 0) as forger, RawReader(writer.handle, 7) as lost:
        forger.send(forger.hello(rank=1))
        await until(lambda: writer.stats().remote.breaches == 1)
        assert forger.silent()
        lost.send(lost.hello())
        refused = await lost.receive()
        assert isinstance(refused, Refused)
        assert "there is no remote rank 7" in refused.reason
    raw.send(flow_wire.pack_hello(flow_wire.Hello(raw.tag, 0, raw.session, 5, 0, (0, 0))))
    await until(lambda: writer.stats().remote.breaches == 2)


async def _old_session(writer: Writer, raw: RawReader) -> None:
    old = raw.ack(1)
    raw.send(flow_wire.pack_goodbye(Goodbye(raw.tag)))
    while not isinstance(await raw.receive(), Refused):
        pass
    await until(lambda: len(writer.stats().readers) == 1)
    with RawReader(writer.handle, 1, 2) as following:
        await following.join()
        raw.send(old)
        following.send(old)
        await until(lambda: writer.stats().remote.breaches == 1)
        raw.send(raw.hello(1))
        refused = await raw.receive()
        assert isinstance(refused, Refused)
        assert refused.reason == FAREWELL  # it has left, and stays away
        with RawReader(writer.handle, 1, 3) as late:
            late.send(late.hello())
            refused = await late.receive()
            assert isinstance(refused, Refused)
            assert "taken" in refused.reason
    writer.evict(1)


async def _future(writer: Writer, raw: RawReader) -> None:
    raw.send(raw.ack(999))
    await until(lambda: writer.stats().remote.breaches == 1)
    assert writer.stats().remote.waiting == 1


UP = {
    "truncated, from a reader": _truncated,
    "oversized, from a reader": _oversized,
    "reordered, from a reader": _reordered,
    "replayed, from a reader": _replayed,
    "wrong rank, from a reader": _wrong_rank,
    "old session, from a reader": _old_session,
    "acknowledging the future, from a reader": _future,
}


async def a_reader_without_manners(how: str) -> None:
    """Have a bare socket break the protocol, and look that another reader does not notice."""
    async with remote_queue(2, peer_timeout=2 * HANG) as writer:
        with RawReader(writer.handle, 1) as raw:
            async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
                assert await raw.join() == (0, 0)
                await reader.wait_until_ready(HANG)
                await writer.enqueue("first")
                await raw.receive_to(1)
                assert await reader.dequeue(HANG) == "first"
                await UP[how](writer, raw)
                for number in range(10):
                    await writer.enqueue(number)
                    assert await reader.dequeue(HANG) == number
                # It is ignored until it makes a new connection, and then goes on.
                with RawReader(writer.handle, 1, 1 if how[:3] != "old" else 4) as again:
                    sequence, piece = await again.join(connection=9)
                    assert piece == 0
                    await writer.enqueue("last")
                    assert await reader.dequeue(HANG) == "last"
                    await again.receive_to(sequence + 1)
                    again.send(flow_wire.pack_goodbye(Goodbye(again.tag)))
                    await until(lambda: len(writer.stats().readers) == 1)
                await consumed(writer)


# -- a writer with the right keys ----------------------------------------------------------


def _from_the_writer(how: str, raw: RawWriter) -> list[list[bytes]]:
    """What it sends in place of the first message, and whether it then has to say it again."""
    head, payload = raw.data(0, "first")
    second = raw.data(1, "second")
    assert raw.hello is not None
    session = raw.hello.session
    return {
        "truncated": [[head, payload[:-1]]],
        "oversized": [[head, payload + bytes(3 * PIECE)]],
        "reordered": [second, [head, payload]],
        "replayed": [[head, payload]] * 3,
        "wrong rank": [raw.data(0, "first", raw.tag(1)), second],
        "old session": [raw.data(0, "first", raw.tag(0, session ^ 1)), second],
        "acknowledging the future": [
            [flow_wire.pack_welcome(Welcome(raw.tag(), (7, 3)))],
            second,
        ],
        "noise": [[b"noise", b"more"]],
        "state": [[flow_wire.pack_state(State(raw.tag(), True, True, 0, 0, 0, 0))[:-1]]],
    }[how.partition(",")[0]]


DOWN = [
    "truncated, from the writer",
    "oversized, from the writer",
    "reordered, from the writer",
    "replayed, from the writer",
    "wrong rank, from the writer",
    "old session, from the writer",
    "acknowledging the future, from the writer",
    "noise, from the writer",
    "state, from the writer",
]


async def a_writer_without_manners(how: str) -> None:
    """Have a bare socket in the writer's place send rubbish, and then what is right."""
    handle: Handle = await spent_handle(peer_timeout=2 * HANG)
    with RawWriter() as raw:
        async with MessageQueue.create_from_handle(raw.handle(handle), 0) as reader:
            reading = asyncio.create_task(reader.dequeue(HANG))
            first = await raw.greeted()
            raw.go_on()
            for parts in _from_the_writer(how, raw):
                raw.send(*parts)
            if not how.startswith("replayed"):
                again = await raw.greeted()  # it hung up, and comes again
                assert (again.peer, again.session) == (first.peer, first.session)
                assert again.connection > first.connection
                assert not reading.done()
                raw.go_on()
                raw.send(*raw.data(0, "first"))
            raw.send(*raw.data(1, "second"))
            assert await reading == "first"
            assert await reader.dequeue(HANG) == "second"
            with pytest.raises(TimeoutError):
                await reader.dequeue(timeout=0.05)
            await reader.aclose(timeout=0)  # nobody answers


@case(5, *UP, *DOWN)
async def test_frames_that_break_the_protocol(how: str) -> None:
    if how in UP:
        await a_reader_without_manners(how)
    else:
        await a_writer_without_manners(how)
