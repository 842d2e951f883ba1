"""Readers over TCP used the wrong way: arguments, closed ends, forks, other loops, drops."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from aioshm import AioshmError, MessageQueue, QueueShutDown, ReaderDied, WriterDied
from tests.helpers import HANG, until
from tests.remotes import LOOPBACK, SOON, remote_pair, remote_queue
from tests.trouble.forked import in_forked_child
from tests.trouble.test_use import awaiting_calls, calls_at_once

# -- create ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"connect_ip": "0.0.0.0"}, ValueError, "connect_ip.*every address"),
        ({"bind_ip": "0.0.0.0"}, ValueError, "bind_ip.*every address"),
        ({"connect_ip": "::"}, ValueError, "connect_ip"),
        ({"bind_ip": "::"}, ValueError, "bind_ip"),
        ({"bind_ip": "[::]"}, ValueError, "bind_ip"),
        ({"connect_ip": "*"}, ValueError, "connect_ip"),
        ({"bind_ip": ""}, ValueError, "bind_ip"),
        ({"connect_ip": ""}, ValueError, "connect_ip"),
        ({"connect_ip": "198.51.100.7"}, (OSError, AioshmError), "not an address of this machine"),
        ({"bind_ip": "198.51.100.7"}, (OSError, AioshmError), "not an address of this machine"),
        ({"bind_ip": "2001:db8::7"}, (OSError, AioshmError), "not an address of this machine"),
        ({"connect_ip": "no-such-host.invalid"}, (OSError, AioshmError), "does not resolve"),
        ({"bind_ip": "no-such-host.invalid"}, (OSError, AioshmError), "does not resolve"),
        ({"bind_ip": "a" * 300}, (OSError, AioshmError), "does not resolve"),
        ({"connect_ip": 7}, TypeError, "connect_ip"),
        ({"connect_ip": "127.0.0.1:5555"}, (OSError, ValueError), "connect_ip"),
        ({"port": -1}, ValueError, "port"),
        ({"port": 65536}, ValueError, "port"),
        ({"port": "5555"}, TypeError, "port"),
        ({"port": True}, TypeError, "port"),
        ({"port": 1.5}, TypeError, "port"),
        ({"peer_timeout": 0}, ValueError, "peer_timeout"),
        ({"peer_timeout": -1.0}, ValueError, "peer_timeout"),
        ({"peer_timeout": float("nan")}, ValueError, "peer_timeout"),
        ({"n_local_reader": 4}, ValueError, "n_local_reader"),
        ({"n_local_reader": -1}, ValueError, "n_local_reader"),
        ({"n_local_reader": True}, TypeError, "n_local_reader"),
        ({"n_local_reader": 1.0}, TypeError, "n_local_reader"),
        ({"local_reader_ranks": [1], "remote_reader_ranks": [1, 2]}, ValueError, "rank"),
        ({"local_reader_ranks": [0, 1]}, ValueError, "local_reader_ranks"),
        ({"remote_reader_ranks": [1]}, ValueError, "remote_reader_ranks"),
        ({"remote_reader_ranks": [1, 1]}, ValueError, "remote_reader_ranks"),
        ({"remote_reader_ranks": [1, -1]}, ValueError, "remote_reader_ranks"),
        ({"remote_reader_ranks": [1, 1 << 40]}, ValueError, "remote_reader_ranks"),
    ],
)
async def test_create_refuses_what_cannot_be_meant(
    options: dict[str, Any], error: Any, says: str
) -> None:
    # Nothing of it may stay, and the fixture looks.
    with pytest.raises(error, match=says):
        MessageQueue.create(**{"n_reader": 3, "n_local_reader": 1, **options})


async def test_without_an_address_it_is_the_one_that_the_routing_table_names() -> None:
    async with remote_queue(connect_ip=None) as writer:
        assert writer.handle.address.startswith("tcp://")
        assert "0.0.0.0" not in writer.handle.address
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await writer.enqueue("there")
            assert await reader.dequeue(HANG) == "there"


def test_a_queue_that_was_never_run_leaves_nothing() -> None:
    for n_local_reader in (0, 1):
        queue = remote_queue(2, n_local_reader)
        reader = MessageQueue.create_from_handle(queue.handle, 1)
        for end in (reader, queue):
            asyncio.run(end.aclose())
            assert end.closed


def test_a_queue_with_local_readers_only_has_no_address() -> None:
    queue = MessageQueue.create(2)
    assert (queue.handle.address, queue.handle.remote_ranks) == ("", ())
    assert not queue.handle.client_secret
    asyncio.run(queue.aclose())
    for option in ({"connect_ip": LOOPBACK}, {"bind_ip": LOOPBACK}, {"port": 5555}):
        with pytest.raises(ValueError, match="there are none"):
            MessageQueue.create(2, **option)


# -- the wrong way ---------------------------------------------------------------------


async def test_after_a_close_every_call_says_so() -> None:
    async with remote_pair() as (writer, reader):
        ends: list[Any] = [writer, reader]
        reads = [asyncio.create_task(reader.dequeue()) for _ in range(3)]
        await until(lambda: reader.stats().waits.parks)
        await asyncio.gather(*(end.aclose() for end in (reader, writer) * 2))
        for end in ends:
            await end.aclose()
            assert end.closed
            end.stats()
            with pytest.raises(QueueShutDown, match="was closed"):
                await end.wait_until_ready()
        for task in reads:
            with pytest.raises(QueueShutDown, match="was closed"):
                await task
        for call in awaiting_calls(writer, reader):
            with pytest.raises((QueueShutDown, StopAsyncIteration)):
                await call()
        for at_once in calls_at_once(writer, reader):
            with pytest.raises(QueueShutDown, match="was closed"):
                at_once()


async def test_a_writer_closed_while_tasks_wait_to_write() -> None:
    async with remote_pair(max_chunk_bytes=4096, max_chunks=2) as (writer, reader):
        writes = [asyncio.create_task(writer.enqueue(bytes(3000))) for _ in range(6)]
        await until(lambda: writer.stats().waits.parks)
        closing = asyncio.create_task(writer.aclose(HANG))
        got = [message async for message in reader]
        await closing
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert got == [bytes(3000)] * results.count(None)
        assert all(isinstance(result, QueueShutDown | None) for result in results)
        assert 0 < len(got) < 6


def _run(call: Callable[[], Awaitable[object]]) -> object:
    async def run() -> object:
        return await call()

    return asyncio.run(run())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_in_a_forked_child_every_call_is_refused_and_the_parent_is_unharmed() -> None:
    async with remote_pair() as (writer, reader):
        await writer.enqueue("before")
        calls = calls_at_once(writer, reader)
        awaiting = [*awaiting_calls(writer, reader), writer.aclose, reader.aclose]
        calls += [partial(_run, call) for call in awaiting]
        for call in calls:
            said = await in_forked_child(call)
            assert said.startswith("ForkedQueue: "), said
            assert "make or join a queue in the child itself" in said
        assert await reader.dequeue(HANG) == "before"
        waiting = asyncio.create_task(reader.dequeue())
        await until(lambda: reader.stats().waits.parks)
        await writer.enqueue("after")
        assert await waiting == "after"


async def test_from_another_loop_or_thread_every_call_is_refused() -> None:
    async with remote_pair() as (writer, reader):
        for call in (reader.dequeue, lambda: writer.enqueue("x")):
            with pytest.raises(RuntimeError, match="another event loop or thread"):
                await asyncio.to_thread(_run, call)
        await writer.enqueue("here")
        assert await reader.dequeue(HANG) == "here"


async def test_ends_that_are_only_dropped_warn_and_are_a_death_to_their_peers() -> None:
    writer = remote_queue(peer_timeout=SOON)
    ends: list[Any] = [MessageQueue.create_from_handle(writer.handle, 0)]
    await asyncio.gather(writer.wait_until_ready(HANG), ends[0].wait_until_ready(HANG))
    with pytest.warns(ResourceWarning, match=r"reader rank 0 of .* was not closed"):
        ends.pop()
        gc.collect()
    async with asyncio.timeout(HANG):
        with pytest.raises(ReaderDied, match=r"rank 0 \(pid \d+\) died"):
            while True:
                await writer.enqueue("x")
                await asyncio.sleep(0.01)
    ends.append(writer)
    handle = writer.handle
    async with MessageQueue.create_from_handle(handle, 0) as reader:
        await reader.wait_until_ready(HANG)
        await writer.enqueue("what was written")
        assert await reader.dequeue(HANG) == "what was written"
        del writer
        with pytest.warns(ResourceWarning, match="writer of queue .* was not closed"):
            ends.pop()
            gc.collect()
        with pytest.raises(WriterDied, match="message"):
            await reader.dequeue(HANG)
