"""A reader that stands still costs the writer its window, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from pathlib import Path
from typing import Any

from aioshm import Handle, MessageQueue, QueueFull
from tests.helpers import HANG, Child, Pipe
from tests.remote.roles import MIB, read, shared
from tests.stress.traffic import packed
from tests.stress.witness import Witness

SMALL = 32 * MIB
LARGE = 64 * MIB
SLACK = 24 * MIB
"""What an allocator keeps, and what libzmq has on its way."""
CHUNK = 4 * MIB


def resident() -> int:
    """Bytes of memory of its own that this process has."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) << 10


async def write_until_full(pipe: Pipe, options: dict[str, Any]) -> None:
    """Fill the window with small messages, then with large ones; report what each took.

    Then write on for a while against the full window, and report that too. Each when told.
    """
    async with MessageQueue.create(**options) as queue:
        pipe.send(queue.handle)
        await queue.wait_until_ready(HANG)
        pipe.send("ready")
        await pipe.receive()
        before, number, taken = resident(), 0, []
        small, large = bytes(1000), bytes(2 * CHUNK)
        for payload in (small, large):
            began = number
            with contextlib.suppress(TimeoutError):
                while True:
                    await queue.enqueue(packed(number, payload), timeout=0.5)
                    number += 1
            taken.append((number - began, resident() - before))
        pipe.send(taken)
        await pipe.receive()
        for _ in range(100):
            for payload in (small, large):
                with contextlib.suppress(QueueFull):
                    queue.enqueue_nowait(packed(number, payload))
                    number += 1
            await asyncio.sleep(0.001)
        pipe.send(resident() - before)
        await pipe.receive()
        await queue.aclose(HANG)
    pipe.send(number)


async def test_a_writers_memory_stays_within_the_window_of_a_frozen_reader(
    witness: Witness,
) -> None:
    options = {"n_reader": 1, "n_local_reader": 0, "connect_ip": "127.0.0.1"}
    options |= {"max_chunk_bytes": CHUNK, "max_chunks": SMALL // CHUNK}
    options |= {"max_overflow_bytes": LARGE, "peer_timeout": HANG}
    with Child(write_until_full, options) as writer:
        handle: Handle = await writer.receive()
        with Child(read, shared(witness), handle, 0) as reader:
            assert await writer.receive() == "ready"
            reader.signal(signal.SIGSTOP)
            writer.send("fill")
            small, large = await writer.receive()
            assert SMALL / 2000 < small[0] < SMALL / 1000
            assert small[1] < SMALL + SLACK
            assert LARGE / (4 * CHUNK) < large[0] <= LARGE / (2 * CHUNK)
            assert large[1] < SMALL + LARGE + SLACK
            writer.send("write on")
            assert await writer.receive() < SMALL + LARGE + SLACK
            reader.signal(signal.SIGCONT)
            writer.send("close")
            number = await writer.receive()
            assert await reader.receive() == (number, [])
            await reader.join()
        await writer.join()
