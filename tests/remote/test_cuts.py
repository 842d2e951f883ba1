"""A cable that is cut in the middle of a large message, for a moment or for good."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

from aioshm import Handle, MessageQueue, QueueFull, ReaderDied, WriterDied
from tests.helpers import HANG, Child, Pipe
from tests.networks import Cable
from tests.remote.cases import case
from tests.remote.roles import MIB, follow, reach, read, shared, words_at
from tests.stress.traffic import examine, packed
from tests.stress.witness import Witness, consumed

BODY = 30 * MIB
PEER_TIMEOUT = 1.0


def options_for(cable: Cable) -> dict[str, Any]:
    """A queue with one reader, at the other end of the cable."""
    options = {"n_reader": 1, "n_local_reader": 0, "connect_ip": cable.near.ip4}
    return {**options, "max_overflow_bytes": 2 * BODY, "peer_timeout": PEER_TIMEOUT}


async def cut_within(cable: Cable, source: random.Random, words: memoryview, number: int) -> bool:
    """Cut the cable at a random byte of the message that the writer writes now.

    Returns:
        whether the cut came in time; if so, not all of it has arrived.
    """
    begin = cable.far.received()
    await follow(lambda: cable.far.received() - begin, source.randrange(BODY * 3 // 4))
    cable.cut(source)
    return bool(words[consumed(0)] == number and cable.far.received() - begin < BODY)


# -- for less than peer_timeout ----------------------------------------------------------


async def write_bodies(pipe: Pipe, options: dict[str, Any]) -> None:
    """Write a large message whenever told its number, until told None."""
    body = random.Random(0).randbytes(BODY)
    async with MessageQueue.create(**options) as queue:
        pipe.send(queue.handle)
        await queue.wait_until_ready(HANG)
        while (number := await pipe.receive(2 * HANG)) is not None:
            await queue.enqueue(packed(number, body), timeout=HANG)
        await queue.aclose(HANG)


@case(9, "less than peer_timeout")
async def test_short_cuts(
    how: str, witness: Witness, source: random.Random, scaled: Callable[[int], int]
) -> None:
    words, path, count = witness.words, shared(witness), scaled(10)
    with (
        Cable() as cable,
        Child(write_bodies, options_for(cable), prefix=cable.near.prefix) as writer,
    ):
        handle: Handle = await writer.receive()
        with Child(read, path, handle, 0, prefix=cable.far.prefix) as reader:
            number = cuts = 0
            while cuts < count:
                writer.send(number)
                cuts += await cut_within(cable, source, words, number)
                await asyncio.sleep(source.uniform(0.0, 0.7) * PEER_TIMEOUT)
                cable.mend()
                number += 1
                await reach(words, consumed(0), number)
            writer.send(None)
            await writer.join()
            assert await reader.receive() == (number, [])
            await reader.join()


# -- for more ----------------------------------------------------------------------------


async def write_until_it_dies(pipe: Pipe, options: dict[str, Any]) -> None:
    """Again and again: write a large message, then small ones until the reader is dead.

    When told a number, begins with that. Reports the error each time, and the number of
    the next message.
    """
    body = random.Random(0).randbytes(BODY)
    async with MessageQueue.create(**options) as queue:
        pipe.send(queue.handle)
        await queue.wait_until_ready(HANG)
        while (number := await pipe.receive(2 * HANG)) is not None:
            await queue.enqueue(packed(number, body), timeout=HANG)
            try:
                while True:
                    number += 1
                    try:
                        queue.enqueue_nowait(packed(number, bytes(100)))
                    except QueueFull:
                        number -= 1
                    await asyncio.sleep(0.01)
            except ReaderDied as error:
                pipe.send((error.rank, error.pid, str(error), queue.stats().messages))
        await queue.aclose(HANG)


async def read_until_it_dies(pipe: Pipe, path: str, handle: Handle) -> None:
    """Again and again: join when told, and read until the writer is dead.

    Reports the first message's number, then the following one's, what was wrong, and the
    error.
    """
    with words_at(path) as words:
        ended = False
        while not ended:
            async with MessageQueue.create_from_handle(handle, 0) as queue:
                await queue.wait_until_ready(HANG)
                first = following = queue.stats().messages
                words[consumed(0)] = first
                pipe.send(first)
                wrongs, outcome = [], "closed"
                try:
                    async for message in queue:
                        number, wrong = examine(message)
                        if wrong or number != following:
                            wrongs.append(wrong or f"message {number} for {following}")
                        following = number + 1
                        words[consumed(0)] = following
                    ended = True
                except WriterDied as error:
                    outcome = str(error)
                pipe.send((following, wrongs, outcome))
            if not ended:
                assert await pipe.receive(2 * HANG) == "join"


@case(9, "more than peer_timeout")
async def test_long_cuts(
    how: str, witness: Witness, source: random.Random, scaled: Callable[[int], int]
) -> None:
    """Both ends say so, the reader with what it has; another one may then take the rank."""
    words, count = witness.words, scaled(4)
    with (
        Cable() as cable,
        Child(write_until_it_dies, options_for(cable), prefix=cable.near.prefix) as writer,
    ):
        handle: Handle = await writer.receive()
        path, prefix = shared(witness), cable.far.prefix
        with Child(read_until_it_dies, path, handle, prefix=prefix) as reader:
            first = await reader.receive()
            number = cuts = 0
            while cuts < count:
                assert first == number
                writer.send(number)
                in_time = await cut_within(cable, source, words, number)
                cuts += in_time
                rank, pid, said, written = await writer.receive()
                assert (rank, pid) == (0, reader.pid)
                assert "rank 0" in said
                assert f"pid {pid}" in said
                following, wrongs, outcome = await reader.receive()
                assert not wrongs
                assert first <= following <= written
                assert following == first or not in_time
                assert re.search(r"writer .*(died|gone|unreachable)", outcome)
                if following:
                    assert re.search(rf"\b{following - 1}\b", outcome)
                cable.mend()
                reader.send("join")
                first, number = await reader.receive(), written
            writer.send(None)
            await writer.join()
            assert await reader.receive() == (number, [], "closed")
            await reader.join()
