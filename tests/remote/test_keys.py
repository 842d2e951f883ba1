"""Who has not the right keys gets nothing, gives nothing and disturbs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pickle
import time
from pathlib import Path

import pytest
import zmq

from aioshm import Handle, MessageQueue, Reader, Writer, WriterDied
from tests.helpers import HANG, until
from tests.remote.cases import case
from tests.remote.wires import Bomb, RawReader, RawWriter, data, key_pair, spent_handle
from tests.remotes import LATE, SOON, consumed, gathered, remote_queue

STRANGERS = 10


async def undisturbed(writer: Writer, reader: Reader) -> None:
    """Write some messages and read them."""
    for number in range(20):
        await writer.enqueue(number)
        assert await reader.dequeue(HANG) == number
    await consumed(writer)
    assert [peer.rank for peer in writer.stats().readers] == [0]


async def kept_out(handle: Handle, writer: Writer, *, curve: bool = True) -> None:
    """Look that a bare socket with these keys gets no answer and is counted."""
    before = writer.stats().remote.breaches
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(RawReader(handle, 1, session, curve=curve))
            for session in range(STRANGERS)
        ]
        for stranger in strangers:
            with contextlib.suppress(zmq.Again):  # it has given up already
                stranger.socket.send(stranger.hello(), zmq.NOBLOCK)
        # libzmq does not report each of them: one may hang up before its mistake is told.
        await until(lambda: writer.stats().remote.breaches > before)
        assert all(stranger.silent() for stranger in strangers)
        assert [peer.rank for peer in writer.stats().readers] == [0]


async def finds_nobody(handle: Handle, address: str) -> str:
    """Look that a reader with this handle gives up in time; what it says."""
    async with MessageQueue.create_from_handle(handle, 1) as reader:
        began = time.monotonic()
        with pytest.raises(WriterDied, match=address) as caught:
            await reader.dequeue(HANG)
        assert SOON * 0.9 < time.monotonic() - began < LATE
        with pytest.raises(WriterDied):
            await reader.wait_until_ready(HANG)
        return str(caught.value)


@case(1, "a bare socket", "a handle without keys")
async def test_no_key(how: str) -> None:
    async with remote_queue(2, peer_timeout=SOON) as writer:
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await until(lambda: writer.stats().readers)
            if how == "a bare socket":
                await kept_out(writer.handle, writer, curve=False)
            else:
                bare = dataclasses.replace(
                    writer.handle, server_key="", client_public="", client_secret=""
                )
                with pytest.raises(ValueError, match="key"):
                    MessageQueue.create_from_handle(bare, 1)
            async with MessageQueue.create_from_handle(writer.handle, 1) as other:
                await asyncio.gather(*(r.wait_until_ready(HANG) for r in (reader, other)))
            await until(lambda: len(writer.stats().readers) == 1)
            await undisturbed(writer, reader)


@case(2)
async def test_wrong_server_key(how: str) -> None:
    async with remote_queue(2, peer_timeout=SOON) as writer:
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await until(lambda: writer.stats().readers)
            wrong = dataclasses.replace(writer.handle, server_key=key_pair()[0])
            said = await finds_nobody(wrong, writer.handle.address)
            assert wrong.client_secret not in said
            async with MessageQueue.create_from_handle(writer.handle, 1):
                await reader.wait_until_ready(HANG)
            await until(lambda: len(writer.stats().readers) == 1)
            await undisturbed(writer, reader)


@case(3, "a bare socket", "a reader")
async def test_a_key_that_is_not_on_the_list(how: str) -> None:
    async with remote_queue(2, peer_timeout=SOON) as writer:
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await until(lambda: writer.stats().readers)
            public, secret = key_pair()
            other = dataclasses.replace(writer.handle, client_public=public, client_secret=secret)
            if how == "a bare socket":
                await kept_out(other, writer)
            else:
                before = writer.stats().remote.breaches
                await finds_nobody(other, writer.handle.address)
                assert writer.stats().remote.breaches > before
            async with MessageQueue.create_from_handle(writer.handle, 1):
                await reader.wait_until_ready(HANG)
            await until(lambda: len(writer.stats().readers) == 1)
            await undisturbed(writer, reader)


@case(14, "in the writer's place", "in a reader's place", "in the writer's name")
async def test_a_malicious_pickle_is_never_unpickled(how: str, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "exploded")
    if how == "in a reader's place":
        async with gathered(1) as (writer, (reader,)):
            with RawReader(writer.handle) as stranger:
                stranger.token = bytes(32)  # it has the keys of CURVE alone
                for parts in ([pickle.dumps(bomb)], data(stranger.tag, 0, bomb)):
                    stranger.send(*parts)
                await until(lambda: writer.stats().remote.breaches)
                await undisturbed(writer, reader)
                assert stranger.silent()
        assert not bomb.path.exists()
        return
    handle = await spent_handle(peer_timeout=SOON)
    with RawWriter() as stranger:
        async with MessageQueue.create_from_handle(stranger.handle(handle), 0) as reader:
            reading = asyncio.create_task(reader.dequeue(HANG))
            await stranger.greeted()
            stranger.go_on()
            if how == "in the writer's name":  # so this test sees what it is to see
                stranger.send(*stranger.data(0, bomb))
                await reading
                assert bomb.path.exists()
                await reader.aclose(timeout=0)
                return
            stranger.token = bytes(32)
            for _ in range(3):
                for parts in (stranger.data(0, bomb), [pickle.dumps(bomb)]):
                    stranger.send(*parts)
                await stranger.greeted()  # it hung up, and tries again
            assert not reading.done() or isinstance(reading.exception(), WriterDied)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await reader.aclose(timeout=0)
    assert not bomb.path.exists()
