"""Readers over TCP: every message once, in order, bit for bit, of every size and kind."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aioshm import (
    Backoff,
    DecodeError,
    EncodeError,
    Handle,
    MessageQueue,
    MessageTooLarge,
    QueueShutDown,
    Reader,
)
from aioshm.links.flow import PIECE
from tests.helpers import HANG, Child, Pipe, mappings
from tests.overflows import body
from tests.remotes import consumed, gathered, remote_pair, remote_queue
from tests.test_promise_delivery import make_message, verify_all
from tests.trouble.test_messages import Explosive

CHUNK = 1 << 16
SIZES = [0, 1, 63, 64, 4096, CHUNK - 1, CHUNK, CHUNK + 1, PIECE - 1, PIECE, PIECE + 1, 30 << 20]


@pytest.mark.parametrize("doorbell", [True, False], ids=["doorbell", "timer"])
async def test_every_reader_gets_every_message_once_in_order_bit_for_bit(doorbell: bool) -> None:
    total, backoff = 2000, Backoff(doorbell=doorbell)
    queue = remote_queue(3, 1, max_chunk_bytes=CHUNK, max_chunks=2, backoff=backoff)
    async with queue:
        children = [Child(verify_all, queue.handle, rank, backoff) for rank in range(3)]
        with children[0], children[1], children[2]:
            await queue.wait_until_ready(HANG)
            for number in range(total):
                await queue.enqueue(make_message(number, 7), timeout=HANG)
            await queue.aclose(HANG)
            for child in children:
                assert await child.receive() == (total, [], 0)
                await child.join()
    assert queue.stats().waits.rescues == 0


@pytest.mark.parametrize("n_local_reader", [0, 1], ids=["remote alone", "local and remote"])
@pytest.mark.parametrize("kind", ["bytes", "array"])
async def test_messages_of_every_size(kind: str, n_local_reader: int) -> None:
    async with gathered(1 + n_local_reader, n_local_reader, max_chunk_bytes=CHUNK) as (
        writer,
        readers,
    ):
        for number, size in enumerate(SIZES):
            sent = np.frombuffer(body(number, size)[:size], np.uint8)
            await writer.enqueue(sent if kind == "array" else sent.tobytes(), timeout=HANG)
            for reader in readers:
                got = await reader.dequeue(HANG)
                assert type(got) is (np.ndarray if kind == "array" else bytes)
                assert np.array_equal(np.frombuffer(got, np.uint8), sent)
        await consumed(writer)
        assert writer.stats().messages == len(SIZES)
        assert [reader.stats().messages for reader in readers] == [len(SIZES)] * len(readers)


async def test_what_is_written_in_place_is_dequeued_as_bytes() -> None:
    async with gathered(2, 1, max_chunk_bytes=CHUNK) as (writer, readers):
        for size in (0, 1, 5, 4096, CHUNK):
            text = body(size, size)[:size]
            async with writer.acquire_write(size + 10 if size < CHUNK else CHUNK) as lease:
                lease.buffer[:size] = text
                lease.nbytes = size
            with pytest.raises(LookupError):
                async with writer.acquire_write(10) as lease:
                    lease.buffer[:] = b"never read"
                    raise LookupError
            for reader in readers:
                got = await reader.dequeue(HANG)
                assert type(got) is bytes
                assert got == text
        with pytest.raises(MessageTooLarge):
            async with writer.acquire_write(CHUNK + 1):
                pass


async def test_leases_small_and_large_messages_keep_their_order() -> None:
    async with gathered(3, 1, max_chunk_bytes=CHUNK, max_chunks=2) as (writer, readers):

        async def write() -> None:
            for number in range(200):
                await writer.enqueue((number, "small"))
                await writer.enqueue((number, body(number, 2000)))
                async with writer.acquire_write(100) as lease:
                    lease.buffer[:] = bytes([number]) * 100
                if not number % 20:
                    await writer.enqueue((number, body(number, 3 * PIECE)))

        async def read(reader: Reader) -> None:
            for number in range(200):
                assert await reader.dequeue(HANG) == (number, "small")
                assert await reader.dequeue(HANG) == (number, body(number, 2000))
                assert await reader.dequeue(HANG) == bytes([number]) * 100
                if not number % 20:
                    assert await reader.dequeue(HANG) == (number, body(number, 3 * PIECE))

        async with asyncio.timeout(2 * HANG):
            await asyncio.gather(write(), *map(read, readers))


async def count(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read numbers until the writer closes; report how many came, and which were wrong."""
    number, wrong = 0, []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        async for got in queue:
            if got != number:
                wrong.append((number, got))
            number += 1
        pipe.send((number, wrong))


async def test_many_small_messages() -> None:
    total = 20_000
    async with remote_queue(2, 1) as queue:
        with Child(count, queue.handle, 0) as local, Child(count, queue.handle, 1) as remote:
            await queue.wait_until_ready(HANG)
            for number in range(total):
                await queue.enqueue(number, timeout=HANG)
            await queue.aclose(HANG)
            assert await local.receive() == await remote.receive() == (total, [])
            await local.join()
            await remote.join()


async def test_the_writer_may_be_in_another_process_than_both_readers() -> None:
    with Child(write_all, 1000) as child:
        handle = await child.receive()
        ends = [MessageQueue.create_from_handle(handle, rank) for rank in range(2)]
        async with ends[0], ends[1]:
            for number in range(1000):
                for end in ends:
                    assert await end.dequeue(HANG) == make_message(number, 3)
            for end in ends:
                with pytest.raises(QueueShutDown):
                    await end.dequeue(HANG)
        await child.join()


async def write_all(pipe: Pipe, total: int) -> None:
    """Write so many messages for a local and a remote reader, and close."""
    async with remote_queue(2, 1) as queue:
        pipe.send(queue.handle)
        for number in range(total):
            await queue.enqueue(make_message(number, 3), timeout=HANG)
        await queue.aclose(HANG)


# -- whose memory it is ----------------------------------------------------------------


async def test_the_caller_may_change_the_object_as_soon_as_enqueue_returns() -> None:
    async with remote_pair(max_chunk_bytes=CHUNK) as (writer, reader):
        for size in (1000, CHUNK // 2, 4 * PIECE):
            array, small = np.arange(size, dtype=np.uint8), bytearray(b"small")
            await writer.enqueue({"array": array, "small": small})
            array[:], small[:] = 255, b"XXXXX"
            small.clear()  # raises BufferError while anybody holds a view of it
            got = await reader.dequeue(HANG)
            assert np.array_equal(got["array"], np.arange(size, dtype=np.uint8))
            assert got["small"] == b"small"


async def test_what_dequeue_returns_is_the_callers_own_and_as_writable_as_it_was() -> None:
    async with remote_pair(max_chunk_bytes=CHUNK) as (writer, reader):
        kept = []
        for number in range(20):
            await writer.enqueue(np.full(number * 5000, number, np.uint8))
            got = await reader.dequeue(HANG)
            assert got.flags.writeable
            kept.append(got)
        for number, array in enumerate(kept):
            assert (array == number).all(), "a later message wrote into an earlier one"
            array[:] = 255
        fixed = np.arange(10_000)
        fixed.flags.writeable = False
        await writer.enqueue(fixed)
        assert not (await reader.dequeue(HANG)).flags.writeable


# -- messages that do not go -------------------------------------------------------------


async def test_what_cannot_be_encoded_or_is_too_large_does_nothing() -> None:
    async with gathered(2, 1, max_chunk_bytes=1000, max_overflow_bytes=PIECE) as (writer, readers):
        for _ in range(3):
            with pytest.raises(EncodeError):
                await writer.enqueue(lambda: None)
            with pytest.raises(EncodeError):
                writer.enqueue_nowait(lambda: None)
            with pytest.raises(MessageTooLarge, match=f"max_overflow_bytes is {PIECE}"):
                await writer.enqueue(bytes(PIECE + 1))
        assert writer.stats().messages == 0
        await writer.enqueue("good")
        assert [await reader.dequeue(HANG) for reader in readers] == ["good"] * 2


@pytest.mark.parametrize("size", [0, PIECE], ids=["small", "large"])
async def test_a_message_that_cannot_be_decoded_costs_just_itself(size: int) -> None:
    async with remote_pair(max_chunk_bytes=CHUNK) as (writer, reader):
        for number in range(3):
            await writer.enqueue((number, bytes(size)))
            await writer.enqueue((Explosive(), bytes(size)))
        for number in range(3):
            assert await reader.dequeue(HANG) == (number, bytes(size))
            with pytest.raises(DecodeError, match=r"reader rank 0 of .*just that one is lost"):
                await reader.dequeue(HANG)
        await consumed(writer)


# -- which ranks are where ---------------------------------------------------------------


async def test_without_local_readers_there_is_no_ring_and_no_socket_file(
    runtime_folder: Path,
) -> None:
    before = mappings()
    async with gathered(2, 0) as (writer, readers):
        assert writer.handle.path == ""
        assert writer.handle.ranks == writer.handle.remote_ranks == (0, 1)
        await writer.enqueue("small")
        await writer.enqueue(body(0, 4 * PIECE))
        async with writer.acquire_write(10) as lease:
            lease.buffer[:] = b"0123456789"
        for reader in readers:
            assert await reader.dequeue(HANG) == "small"
            assert await reader.dequeue(HANG) == body(0, 4 * PIECE)
            assert await reader.dequeue(HANG) == b"0123456789"
        assert mappings() == before
        assert [path for path in runtime_folder.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize(
    ("options", "ranks", "remote"),
    [
        ({"n_reader": 3, "n_local_reader": 1}, (0, 1, 2), (1, 2)),
        ({"n_reader": 2, "n_local_reader": 2}, (0, 1), ()),
        ({"n_reader": 3, "n_local_reader": 1, "local_reader_ranks": [2]}, (2, 0, 1), (0, 1)),
        (
            {
                "n_reader": 3,
                "n_local_reader": 1,
                "local_reader_ranks": [7],
                "remote_reader_ranks": [9, 4],
            },
            (7, 9, 4),
            (9, 4),
        ),
        ({"n_reader": 1, "n_local_reader": 0, "remote_reader_ranks": [5]}, (5,), (5,)),
    ],
)
async def test_each_reader_gets_in_by_the_rank_it_was_given(
    options: dict[str, Any], ranks: tuple[int, ...], remote: tuple[int, ...]
) -> None:
    async with gathered(**options) as (writer, readers):
        handle = writer.handle
        assert set(handle.ranks) == set(ranks)
        assert set(handle.remote_ranks) == set(remote)
        assert bool(handle.address) == bool(remote)
        await writer.enqueue("to all")
        for reader in readers:
            assert await reader.dequeue(HANG) == "to all"
        assert [peer.rank for peer in writer.stats().readers] == sorted(ranks)
        with pytest.raises(ValueError, match="rank 77"):
            MessageQueue.create_from_handle(handle, 77)


async def test_ipv6() -> None:
    async with gathered(2, 1, connect_ip="::1") as (writer, readers):
        assert writer.handle.address.startswith("tcp://[::1]:")
        for message in ("small", body(0, 4 * PIECE)):
            await writer.enqueue(message)
            for reader in readers:
                assert await reader.dequeue(HANG) == message


async def test_a_port_that_was_asked_for_is_the_one() -> None:
    async with remote_queue() as other:
        port = int(other.handle.address.rpartition(":")[2])
        with pytest.raises(OSError, match=str(port)):
            remote_queue(port=port)
    async with remote_pair(port=port) as (writer, reader):
        assert writer.handle.address == f"tcp://127.0.0.1:{port}"
        await writer.enqueue("there")
        assert await reader.dequeue(HANG) == "there"


async def relay(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


async def test_what_is_bound_may_be_another_address_than_what_readers_connect_to() -> None:
    # As behind NAT, or in a container with a published port: here something passes it on.
    async with contextlib.AsyncExitStack() as stack:
        writer = await stack.enter_async_context(
            remote_queue(bind_ip="127.0.0.1", connect_ip="127.0.0.2")
        )
        address, _, port = writer.handle.address.rpartition(":")
        assert address == "tcp://127.0.0.2"
        tasks: list[asyncio.Task[None]] = []

        async def connected(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
            far, to_far = await asyncio.open_connection("127.0.0.1", int(port))
            tasks.append(asyncio.create_task(relay(near, to_far)))
            tasks.append(asyncio.create_task(relay(far, to_near)))

        server = await asyncio.start_server(connected, "127.0.0.2", int(port))
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await writer.enqueue(body(0))
            assert await reader.dequeue(HANG) == body(0)
        server.close()
        await writer.aclose()
        async with asyncio.timeout(HANG):
            await asyncio.gather(*tasks)
            await server.wait_closed()


async def test_the_handle_gets_in_as_a_string_and_pickled() -> None:
    async with remote_queue() as writer:
        handle = Handle.from_string(writer.handle.to_string())
        assert handle == writer.handle
        async with MessageQueue.create_from_handle(handle, 0) as reader:
            await writer.enqueue("through a string")
            assert await reader.dequeue(HANG) == "through a string"
