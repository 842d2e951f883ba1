"""Large messages in trouble: deaths, cancels, strangers, noise, limits. Numbered, one by one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from aioshm import (
    AdmissionRefused,
    AioshmError,
    Evicted,
    Gap,
    Handle,
    MessageQueue,
    MessageTooLarge,
    QueueEmpty,
    QueueShutDown,
    ReaderDied,
    WriterDied,
)
from aioshm.links import flow_wire
from aioshm.links.flow import PIECE
from aioshm.links.folder import folder, sweep
from tests.helpers import HANG, Child, Pipe, pair, until
from tests.test_promise_cancel import ORDERS, cancel_in_the_tick

LARGE = 3 * PIECE


def body(number: int, size: int = LARGE) -> bytes:
    """Bytes that belong to one message only."""
    return random.Random(number).randbytes(1000) * (size // 1000 + 1)


def overflow_of(end: Any) -> Any:
    """The end's overflow, for a look inside."""
    return end._overflow


class Held:
    """A pump that stands still inside the block, so that bodies are on their way for as long."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __enter__(self) -> None:
        self._shell._closed = True

    def __exit__(self, *what: object) -> None:
        self._shell._closed = False
        self._shell.wake()


async def read_to_the_end(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read until the writer's end; report number and checksum of each message, and each error."""
    got: list[Any] = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        while True:
            try:
                message = await queue.dequeue()
                got.append(zlib.crc32(message) if isinstance(message, bytes) else message)
            except Gap as gap:
                got.append(("gap", gap.first, gap.last))
            except (WriterDied, QueueShutDown) as error:
                pipe.send((got, type(error).__name__))
                return


async def connect_and_stop(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Receive half of a message, report it, and stay."""
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        reading = asyncio.create_task(queue.dequeue())
        await until(lambda: queue._overflow and queue._overflow._flow)
        assert queue._overflow is not None
        flow = queue._overflow._flow
        assert flow is not None
        await until(lambda: flow._next and flow._next[1] > 0)
        overflow_of(queue)._dealer._closed = True
        pipe.send("half")
        await reading


async def test_1_a_reader_killed_with_a_body_half_received_is_one_that_died() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=1000, max_overflow_bytes=80 << 20) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(connect_and_stop, queue.handle, 1) as b,
        ):
            await queue.wait_until_ready(HANG)
            assert await a.receive() == "ready"
            sent = [body(0, 40 << 20), body(1)]
            await queue.enqueue(sent[0])
            assert await b.receive() == "half"
            b.signal(signal.SIGKILL)
            await until(lambda: queue.stats().dead)
            with pytest.raises(ReaderDied):
                await queue.enqueue(body(9))
            queue.evict(1)
            await queue.enqueue(sent[1], timeout=HANG)
            await until(lambda: not queue.stats().overflow.waiting)
            await b.join(expect=-signal.SIGKILL)
            await queue.aclose(HANG)
            assert await a.receive() == ([zlib.crc32(m) for m in sent], "QueueShutDown")
            await a.join()


async def write_and_hold(pipe: Pipe, readers: int) -> None:
    """Write small messages and large ones, of which only the first two are sent; and stay."""
    async with MessageQueue.create(readers, max_chunk_bytes=1000) as queue:
        pipe.send(queue.handle)
        await queue.wait_until_ready(HANG)
        for number in range(2):
            await queue.enqueue(number)
            await queue.enqueue(body(number))
        await until(lambda: not queue.stats().overflow.waiting)
        with Held(overflow_of(queue)._router):
            for number in range(2, 5):
                await queue.enqueue(number)
                await queue.enqueue(body(number))
            await queue.enqueue("last")
            pipe.send("written")
            await pipe.receive()


async def test_2_after_a_killed_writer_each_body_on_its_way_is_a_gap_and_the_rest_comes() -> None:
    with Child(write_and_hold, 2) as writer:
        handle = await writer.receive()
        with Child(read_to_the_end, handle, 0) as a, Child(read_to_the_end, handle, 1) as b:
            assert await a.receive() == await b.receive() == "ready"
            assert await writer.receive() == "written"
            await writer.kill()
            expected: list[Any] = []
            for number in range(5):
                large = zlib.crc32(body(number))
                here = 2 * number + 1
                expected += [number, large if number < 2 else ("gap", here, here)]
            for child in (a, b):
                assert await child.receive() == ([*expected, "last"], "WriterDied")
                await child.join()
    assert len(list(folder().iterdir())) == 2  # two dead sockets: the link's and the overflow's
    sweep(folder())
    assert list(folder().iterdir()) == []


@ORDERS
async def test_3_a_cancel_in_the_tick_a_body_arrives_loses_nothing(order: str) -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        await writer.enqueue(bytes(5000))
        await reader.dequeue(HANG)
        router, dealer = overflow_of(writer)._router, overflow_of(reader)._dealer

        def arrive() -> None:
            """Have both pumps run until the body is whole, here and now."""
            flow = overflow_of(reader)._flow
            sequence = overflow_of(reader)._awaited
            router._closed = False
            while flow.body(sequence) is None:
                router._pump()
                dealer._pump()

        for number in range(500):
            router._closed = True
            await writer.enqueue((number, bytes(5000)))
            await cancel_in_the_tick(reader, reader.dequeue, arrive, order)
            assert reader.dequeue_nowait()[0] == number
        with pytest.raises(QueueEmpty):
            reader.dequeue_nowait()
        assert writer.stats().overflow.breaches == 0


async def test_3_a_timeout_between_marker_and_body_loses_nothing() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        source = random.Random(5)
        timeouts = 0

        async def write() -> None:
            for number in range(500):
                await writer.enqueue((number, bytes(source.randrange(4 * PIECE))))

        writing = asyncio.create_task(write())
        for number in range(500):
            while True:
                try:
                    if source.random() < 0.5:
                        got = await reader.dequeue(timeout=source.random() * 2e-3)
                    else:
                        async with asyncio.timeout(source.random() * 2e-3):
                            got = await reader.dequeue()
                    break
                except TimeoutError:
                    timeouts += 1
            assert got[0] == number
        await writing
        assert timeouts > 20


@ORDERS
async def test_3_a_cancel_in_the_tick_an_acknowledgement_arrives_writes_nothing(
    order: str,
) -> None:
    writer, reader = await pair(max_chunk_bytes=1000, max_overflow_bytes=8000)
    async with writer, reader:
        await writer.enqueue((0, bytes(5000)))
        router = overflow_of(writer)._router
        for number in range(100):
            with pytest.raises(LookupError):  # the body is there then, and not consumed
                async with reader.acquire_read(HANG):
                    raise LookupError

            def acknowledge(number: int = number) -> None:
                assert reader.dequeue_nowait()[0] == number
                while writer.stats().overflow.waiting:
                    overflow_of(reader)._dealer._pump()
                    router._pump()

            await cancel_in_the_tick(
                writer, partial(writer.enqueue, ("never", bytes(5000))), acknowledge, order
            )
            assert writer.stats().overflow.waiting == 0
            await writer.enqueue((number + 1, bytes(5000)))
        assert (await reader.dequeue(HANG))[0] == 100


async def test_4_right_after_a_large_enqueue_there_is_nothing_yet_and_nothing_is_lost() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        for number in range(100):
            writer.enqueue_nowait((number, bytes(5000)))
            with pytest.raises(QueueEmpty, match="not all of it"):
                reader.dequeue_nowait()
            with pytest.raises(TimeoutError):
                await reader.dequeue(timeout=0)
            with pytest.raises(TimeoutError):
                async with reader.acquire_read(timeout=0):
                    pass
            assert (await reader.dequeue(HANG))[0] == number


async def test_5_the_caller_may_change_its_array_right_after_enqueue() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with writer, reader:
        array, text = np.zeros(4 * PIECE, np.uint8), bytearray(2 * PIECE)
        for number in range(1, 20):
            array[:], text[:] = number, bytes([number]) * len(text)
            await writer.enqueue((array, text))
            array[:] = 255
            text.clear()  # raises BufferError while anybody holds a view of it
            text = bytearray(2 * PIECE)
            got_array, got_text = await reader.dequeue(HANG)
            assert (got_array == number).all()
            assert got_text == bytes([number]) * len(text)


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
            dealer._socket.disconnect(f"ipc://{dealer._endpoint}")
            dealer._socket.connect(f"ipc://{dealer._endpoint}")
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


async def read_when_told(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Read one message, wait for a word, then read until an error; report all."""
    got = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        got.append(zlib.crc32(await queue.dequeue(HANG)))
        pipe.send("one")
        await pipe.receive()
        try:
            while True:
                got.append(zlib.crc32(await queue.dequeue(HANG)))
        except (Evicted, QueueShutDown) as error:
            pipe.send((got, type(error).__name__))


def resident() -> int:
    """Bytes of memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("fate", ["resumed", "evicted"])
async def test_9_a_frozen_reader_costs_no_more_memory_than_max_overflow_bytes(fate: str) -> None:
    limit = 32 << 20
    async with MessageQueue.create(2, max_chunk_bytes=1000, max_overflow_bytes=limit) as queue:
        with (
            Child(read_to_the_end, queue.handle, 0) as a,
            Child(read_when_told, queue.handle, 1) as b,
        ):
            await queue.wait_until_ready(HANG)
            assert await a.receive() == "ready"
            message = body(0)
            await queue.enqueue(message)
            assert await b.receive() == "one"
            b.signal(signal.SIGSTOP)
            before, written = resident(), 1
            with pytest.raises(TimeoutError, match=r"rank 1 \(pid"):
                while True:
                    await queue.enqueue(message, timeout=1)
                    written += 1
            assert limit - 2 * LARGE < queue.stats().overflow.nbytes <= limit
            assert resident() - before < limit + (16 << 20)
            if fate == "evicted":
                queue.evict(1)
                await until(lambda: not queue.stats().overflow.waiting)
            b.signal(signal.SIGCONT)
            b.send("go on")
            for _ in range(20):
                await queue.enqueue(message, timeout=HANG)
                written += 1
            await queue.aclose(HANG)
            checksum = zlib.crc32(message)
            assert await a.receive() == ([checksum] * written, "QueueShutDown")
            got, error = await b.receive()
            if fate == "evicted":
                assert error == "Evicted"
            else:
                assert (got, error) == ([checksum] * written, "QueueShutDown")
            await a.join()
            await b.join()


async def test_10_a_message_above_max_overflow_bytes_is_refused_and_does_nothing() -> None:
    writer, reader = await pair(max_chunk_bytes=1000, max_overflow_bytes=LARGE)
    async with writer, reader:
        overhead = len(writer._encode(bytes(LARGE))[0]) - LARGE
        for size in (1, LARGE):
            with pytest.raises(MessageTooLarge, match=f"max_overflow_bytes is {LARGE}") as caught:
                await writer.enqueue(bytes(LARGE - overhead + size))
            assert (caught.value.size, caught.value.limit) == (LARGE + size, LARGE)
        assert writer.stats().messages == 0
        await writer.enqueue(bytes(LARGE - overhead))
        assert await reader.dequeue(HANG) == bytes(LARGE - overhead)
    writer, reader = await pair(max_chunk_bytes=1000, max_overflow_bytes=0)
    async with writer, reader:
        with pytest.raises(MessageTooLarge):
            await writer.enqueue(bytes(1001))


async def test_11_a_close_with_time_enough_waits_until_all_is_read() -> None:
    async with MessageQueue.create(2, max_chunk_bytes=1000) as queue:
        with Child(read_to_the_end, queue.handle, 0) as a, Child(slowly, queue.handle, 1) as b:
            await queue.wait_until_ready(HANG)
            assert await a.receive() == "ready"
            for number in range(6):
                await queue.enqueue(body(number))
            await queue.enqueue("last")
            closing = asyncio.create_task(queue.aclose(timeout=HANG))
            # Who has read all need not wait for who has not.
            assert (await a.receive())[1] == "QueueShutDown"
            await a.join()
            assert not closing.done()
            with pytest.raises(QueueShutDown):
                await queue.enqueue("late")
            b.send("go on")
            got, error = await b.receive()
            assert got == [*(zlib.crc32(body(number)) for number in range(6)), "last"]
            assert error == "QueueShutDown"
            await closing
            assert not queue.stats().overflow.waiting
            await b.join()


async def slowly(pipe: Pipe, handle: Handle, rank: int) -> None:
    """Join; read only when told to."""
    got: list[Any] = []
    async with MessageQueue.create_from_handle(handle, rank) as queue:
        await queue.wait_until_ready(HANG)
        await pipe.receive()
        try:
            while True:
                message = await queue.dequeue()
                got.append(zlib.crc32(message) if isinstance(message, bytes) else message)
        except (Gap, QueueShutDown) as error:
            pipe.send((got, type(error).__name__))


async def test_11_a_close_without_time_enough_leaves_gaps_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with reader:
        await writer.enqueue("first")
        await writer.enqueue(bytes(5000))
        await writer.enqueue("between")
        await writer.enqueue(bytes(5000))
        await writer.enqueue("last")
        started = asyncio.get_running_loop().time()
        await writer.aclose(timeout=0.05)
        assert asyncio.get_running_loop().time() - started < HANG
        assert [r.levelname for r in caplog.records if "raise Gap" in r.message] == ["WARNING"]
        assert await reader.dequeue(HANG) == "first"
        with pytest.raises(Gap, match="is lost; the next call goes on after it") as caught:
            await reader.dequeue(HANG)
        assert (caught.value.first, caught.value.last) == (1, 1)
        assert await reader.dequeue(HANG) == "between"
        with pytest.raises(Gap):
            async with reader.acquire_read(HANG):
                pass
        assert reader.dequeue_nowait() == "last"
        with pytest.raises(QueueShutDown):
            await reader.dequeue(HANG)


async def test_11_a_cancelled_close_closes_at_once() -> None:
    writer, reader = await pair(max_chunk_bytes=1000)
    async with reader:
        await writer.enqueue(bytes(5000))
        closing = asyncio.create_task(writer.aclose(timeout=HANG))
        await until(lambda: writer._gathering._sleeper is not None)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not Path(writer.handle.path).exists()
        with pytest.raises(Gap):
            await reader.dequeue(HANG)
