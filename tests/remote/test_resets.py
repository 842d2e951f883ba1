"""Connections that are reset at any byte, those of their handshakes too."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from aioshm import Handle, MessageQueue
from tests.helpers import HANG, Child, Pipe
from tests.proxy import DIRECTIONS, Proxy
from tests.remote.cases import case
from tests.remote.roles import MIB, follow, read, shared, words_at
from tests.stress.traffic import packed
from tests.stress.witness import DONE, Witness, consumed


async def write_until_told(pipe: Pipe, path: str, seed: int, options: dict[str, Any]) -> None:
    """Write messages of all sizes until told to close."""
    source = random.Random(seed)
    pool = source.randbytes(4 * MIB)
    with words_at(path) as words:
        async with MessageQueue.create(**options) as queue:
            pipe.send(queue.handle)
            number = 0
            while not pipe.ready():
                # Mostly small ones, and one in a hundred that travels in pieces.
                most = 6.5 if source.random() < 0.01 else 3.5
                payload = pool[: int(10 ** source.uniform(0, most))]
                await queue.enqueue(packed(number, payload), timeout=HANG)
                number += 1
                words[DONE] = number
            await queue.aclose(HANG)
    pipe.send(number)


@case(10)
async def test_resets(
    how: str, witness: Witness, source: random.Random, scaled: Callable[[int], int]
) -> None:
    options = {"n_reader": 1, "n_local_reader": 0, "connect_ip": "127.0.0.1"}
    options |= {"max_chunk_bytes": 65_536, "max_chunks": 4}
    path, seed, count = shared(witness), source.randrange(1 << 32), scaled(40)
    with Child(write_until_told, path, seed, options) as writer:
        handle: Handle = await writer.receive()
        with Proxy(handle.address) as proxy:
            through = dataclasses.replace(handle, address=proxy.address)
            with Child(read, path, through, 0) as reader:
                words, rank = witness.words, consumed(0)
                for number in range(count):
                    # Half of them not before the last one was made good; so the other half
                    # come in the midst of that, often in a handshake.
                    if source.random() < 0.5:
                        await follow(lambda: int(words[rank]), int(words[rank]) + 100)
                    direction = source.choice(DIRECTIONS)
                    most = 3.5 if direction == "up" else 6.5
                    proxy.reset_after(int(10 ** source.uniform(0, most)), direction)
                    await follow(lambda: proxy.resets, number + 1)
                writer.send("close")
                written = await writer.receive()
                assert await reader.receive() == (written, [])
                await reader.join()
            assert proxy.resets == count
            assert proxy.connections > count
        await writer.join()
