"""A stream across a network that goes away for a while, or is a bad one."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from aioshm import Handle
from tests.helpers import Child
from tests.networks import Cable
from tests.proxy import Proxy
from tests.remote.cases import case
from tests.remote.roles import MIB, reach, read, shared, write
from tests.stress.witness import DONE, Witness, consumed

LOCAL, REMOTE = 0, 1
CUT = 2.0


async def read_everything(
    witness: Witness, writer: Child, readers: list[Child], count: int
) -> None:
    """See the writer close, and each reader report every message once and in order."""
    await reach(witness.words, DONE, count)
    for rank in range(len(readers)):
        await reach(witness.words, consumed(rank), count)
    assert await writer.receive() == "closed"
    for reader in readers:
        assert await reader.receive() == (count, [])
    for child in (writer, *readers):
        await child.join()


@pytest.mark.parametrize("version", ["IPv4", "IPv6"])
async def test_a_cut_of_two_seconds_loses_and_doubles_nothing_and_harms_no_local_reader(
    version: str, witness: Witness, source: random.Random, scaled: Callable[[int], int]
) -> None:
    count = scaled(20_000)
    sizes = [source.randrange(300) for _ in range(count)]
    # Few enough bytes that the window is full long before the stream ends.
    small = {"max_chunk_bytes": 16_384, "max_chunks": 4}
    with Cable() as cable:
        host = cable.near.ip4 if version == "IPv4" else cable.near.ip6
        options = {"n_reader": 2, "n_local_reader": 1, "connect_ip": host, **small}
        path = shared(witness)
        with Child(write, path, options, sizes, prefix=cable.near.prefix) as writer:
            handle: Handle = await writer.receive()
            with (
                Child(read, path, handle, LOCAL, prefix=cable.near.prefix) as local,
                Child(read, path, handle, REMOTE, prefix=cable.far.prefix) as remote,
            ):
                words = witness.words
                await reach(words, consumed(REMOTE), source.randrange(count // 8, count // 2))
                cable.cut(source)
                before = int(words[DONE])
                await asyncio.sleep(CUT)
                written = int(words[DONE])
                assert before <= written < count
                await reach(words, consumed(LOCAL), written)
                # It waits to hear from the remote reader, which may have read all of it: what it
                # said of that may be lost with the cable too.
                assert words[DONE] == words[consumed(LOCAL)] == written
                assert words[consumed(REMOTE)] <= written
                cable.mend()
                await read_everything(witness, writer, [local, remote], count)


def mixed(source: random.Random, nbytes: int) -> list[int]:
    """Draw sizes that come to about so many bytes: mostly small ones, and most bytes in few."""
    sizes = [source.choice((100, 3000, 100_000))]
    while sum(sizes) < nbytes:
        sizes.append(int(10 ** source.uniform(1, 6)))
    return sizes


OPTIONS: dict[str, Any] = {"n_reader": 1, "n_local_reader": 0, "max_chunk_bytes": 65_536}


@case(11, "1 % loss", "4 MB/s", "4 MB/s and a short peer_timeout")
async def test_bad_links(
    how: str, witness: Witness, source: random.Random, scaled: Callable[[int], int]
) -> None:
    sizes = mixed(source, scaled(8) * MIB)
    source.shuffle(sizes)
    if how == "1 % loss":
        await _lossy(witness, sizes)
    elif how == "4 MB/s":
        await _slow(witness, sizes)
    else:
        await _slow(witness, sizes, peer_timeout=0.5)


async def _lossy(witness: Witness, sizes: list[int]) -> None:
    path = shared(witness)
    with Cable() as cable:
        cable.lose(1)
        options = {**OPTIONS, "connect_ip": cable.near.ip4}
        with Child(write, path, options, sizes, prefix=cable.near.prefix) as writer:
            handle = await writer.receive()
            with Child(read, path, handle, 0, prefix=cable.far.prefix) as reader:
                await read_everything(witness, writer, [reader], len(sizes))
        # Of about seven hundred packets in each mebibyte.
        assert cable.lost() > sum(sizes) / MIB


async def _slow(witness: Witness, sizes: list[int], peer_timeout: float = 5.0) -> None:
    """Bytes that take their time starve nothing: it stays one connection.

    Where peer_timeout is short, a busy machine may lose it for a moment, but gets on.
    """
    path = shared(witness)
    options = {**OPTIONS, "connect_ip": "127.0.0.1", "peer_timeout": peer_timeout}
    with Child(write, path, options, sizes) as writer:
        handle: Handle = await writer.receive()
        with Proxy(handle.address, rate=4e6) as proxy:
            through = dataclasses.replace(handle, address=proxy.address)
            began = time.monotonic()
            with Child(read, path, through, 0) as reader:
                await read_everything(witness, writer, [reader], len(sizes))
            assert time.monotonic() - began > 0.8 * sum(sizes) / 4e6
            assert proxy.connections == 1 or peer_timeout < 1.0
            assert proxy.passed["down"] > sum(sizes)
