"""Large messages in trouble: strangers, noise, damage. Numbered, one by one."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from typing import Any

import pytest
import zmq

from aioshm import (
    AdmissionRefused,
    AioshmError,
    Gap,
    MessageQueue,
)
from aioshm.links import flow_wire
from tests.helpers import HANG, Child, Pipe, pair, until
from tests.overflows import body, overflow_of


async def test_6_a_path_taken_before_the_first_large_message_is_an_error_that_says_so() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        path = f"{writer.handle.path}.overflow"
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(path)
            for _ in range(3):
                with pytest.raises(
                    AioshmError, match=rf"cannot listen at {path}.*in use; remove it"
                ):
                    await writer.enqueue(bytes(5000))
            await writer.enqueue("small")
            assert await reader.dequeue(HANG) == "small"
        assert writer.stats().overflow.messages == 0
        os.unlink(path)
        await writer.enqueue(bytes(5000))
        assert await reader.dequeue(HANG) == bytes(5000)


async def squat(pipe: Pipe, path: str) -> None:
    """Take a path over from whoever listens there, and accept nobody."""
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        pipe.send("there")
        await pipe.receive()
    os.unlink(path)


async def test_6_a_reader_connects_to_nobody_but_the_writer() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        path = f"{writer.handle.path}.overflow"
        with Child(squat, path) as stranger:
            assert await stranger.receive() == "there"
            for _ in range(3):
                with pytest.raises(AdmissionRefused, match=rf"pid {stranger.pid} .* listens at"):
                    await reader.dequeue(HANG)
            stranger.send("go")
            await stranger.join()
        await writer.aclose(timeout=0)
        with pytest.raises(Gap) as caught:
            await reader.dequeue(HANG)
        assert (caught.value.first, caught.value.last) == (0, 0)


@pytest.mark.parametrize("noise", ["zmq", "raw"])
async def test_7_a_stranger_on_the_endpoint_gets_nothing_and_is_counted(noise: str) -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        assert await reader.dequeue(HANG) == bytes(5000)
        path = f"{writer.handle.path}.overflow"
        source = random.Random(7)
        strangers = 20
        if noise == "raw":
            for _ in range(strangers):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(path)
                    try:
                        sock.sendall(source.randbytes(100_000))
                    except OSError:
                        pass  # dropped in mid-sentence
        else:
            with zmq.Context() as context:
                dealers = []
                for number in range(strangers):
                    dealer = context.socket(zmq.DEALER)
                    dealer.linger = 0
                    dealer.connect(f"ipc://{path}")
                    dealer.send(source.randbytes(100) if number else forged_hello())
                    dealer.send(source.randbytes(1000))
                    dealers.append(dealer)
                await until(lambda: writer.stats().overflow.breaches >= strangers)
                await writer.enqueue(body(1))
                assert await reader.dequeue(HANG) == body(1)
                assert not any(dealer.poll(0) for dealer in dealers)
                for dealer in dealers:
                    dealer.close()
            assert writer.stats().overflow.breaches == strangers
        await writer.enqueue(body(2))
        assert await reader.dequeue(HANG) == body(2)


def forged_hello() -> bytes:
    """What a reader would say, but for the key."""
    return flow_wire.pack_hello(flow_wire.Hello(bytes(16), 0, 1, 99, 0, (0, 0)))


async def test_8_a_reader_that_breaks_the_protocol_is_cut_off_until_it_connects_anew() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=1000) as writer:
        ends = [MessageQueue.create_from_handle(writer.handle, rank) for rank in range(2)]
        async with ends[0], ends[1]:
            await asyncio.gather(*(end.wait_until_ready(HANG) for end in ends))
            await writer.enqueue(bytes(5000))
            for end in ends:
                await end.dequeue(HANG)
            dealer, flow = overflow_of(ends[1])._dealer, overflow_of(ends[1])._flow
            dealer._socket.send(flow_wire.pack_ack(flow_wire.Ack(flow._tag_out, 999, (999, 0))))
            await until(lambda: writer.stats().overflow.breaches)
            await writer.enqueue(body(1))
            assert await ends[0].dequeue(HANG) == body(1)
            with pytest.raises(TimeoutError):
                await ends[1].dequeue(timeout=0.05)
            dealer._socket.disconnect(dealer._endpoint)
            dealer._socket.connect(dealer._endpoint)
            assert await ends[1].dequeue(HANG) == body(1)
            assert writer.stats().overflow.breaches == 1


@pytest.mark.parametrize("how", ["truncated", "lost", "twice", "out of order"])
async def test_8_what_comes_damaged_from_the_writer_is_fetched_again(how: str) -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        await reader.dequeue(HANG)
        dealer = overflow_of(reader)._dealer
        receive, held = dealer._receive_parts, list[Any]()

        def damaged() -> Any:
            parts = receive()
            if parts is None or len(parts) < 2 or held:
                return parts
            held.append(parts)
            if how == "truncated":
                return [parts[0], zmq.Frame(parts[1].bytes[:-1], copy=True)]
            if how == "lost":
                return receive()
            if how == "out of order":
                parts = None
                while parts is None:
                    parts = receive()
            return parts

        dealer._receive_parts = damaged
        await writer.enqueue(body(1))
        assert await reader.dequeue(HANG) == body(1)
        assert held
        assert overflow_of(reader)._flow.breaches == (how != "twice") or how == "lost"
        assert writer.stats().overflow.breaches == 0
