"""Where readers on other machines connect, what is too large for them, and when they are dead."""

from __future__ import annotations

import asyncio

import pytest

from aioshm import MessageQueue, MessageTooLarge
from aioshm.ends.remote_writer import Place, RemoteWriter, place_for
from aioshm.links.curve import new_keys
from tests.helpers import HANG, until
from tests.remote_flows import RemoteEnds


@pytest.mark.parametrize(
    ("connect", "bind", "place"),
    [
        ("127.0.0.1", None, ("127.0.0.1", "127.0.0.1")),
        (None, "127.0.0.2", ("127.0.0.2", "127.0.0.2")),
        ("192.0.2.1", "127.0.0.1", ("192.0.2.1", "127.0.0.1")),  # through NAT
        ("::1", None, ("::1", "::1")),
    ],
)
def test_readers_connect_where_they_are_told_and_it_listens_where_that_leads(
    connect: str | None, bind: str | None, place: tuple[str, str]
) -> None:
    assert place_for((3,), connect, bind, 5555, 2.0) == Place((3,), *place, 5555, 2.0)


def test_without_any_address_it_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioshm.links.network.own_address", lambda: "127.0.0.3")
    assert place_for((0,), None, None, 0, 5.0) == Place((0,), "127.0.0.3", "127.0.0.3", 0, 5.0)


@pytest.mark.parametrize(
    ("connect", "bind", "what"),
    [("192.0.2.1", None, "connect_ip"), ("127.0.0.1", "192.0.2.1", "bind_ip")],
)
def test_it_has_to_be_an_address_of_this_machine(connect: str, bind: str | None, what: str) -> None:
    with pytest.raises(OSError, match=f"{what}='192.0.2.1' is not an address of this machine"):
        place_for((0,), connect, bind, 0, 5.0)


@pytest.mark.parametrize("overflow", [0, 500, 1500])
async def test_what_is_larger_than_a_chunk_has_to_be_within_the_overflow(overflow: int) -> None:
    writer = MessageQueue.create(
        1, 0, connect_ip="127.0.0.1", max_chunk_bytes=1000, max_overflow_bytes=overflow
    )
    async with writer, MessageQueue.create_from_handle(writer.handle, 0) as reader:
        await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
        limit = max(1000, overflow)
        with pytest.raises(MessageTooLarge, match=f"max_overflow_bytes is {overflow}") as caught:
            writer.enqueue_nowait(bytes(2000))
        assert (caught.value.limit, writer.stats().messages) == (limit, 0)
        message = bytes(limit - 100)  # and what pickle adds
        await writer.enqueue(message, HANG)
        assert await reader.dequeue(HANG) == message


class Host:
    """A writer that only notes who died."""

    def __init__(self) -> None:
        self.dead: list[int] = []

    def remote_joined(self, rank: int, pid: int, address: str) -> None:
        """Nothing to note."""

    def remote_left(self, rank: int) -> None:
        """Nothing to note."""

    def remote_died(self, rank: int) -> None:
        """Note it."""
        self.dead.append(rank)

    def remote_moved(self) -> None:
        """Nothing to note."""


async def test_who_was_back_and_lost_again_within_one_look_is_not_dead_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, ends, (keys, secret) = Host(), RemoteEnds(0), new_keys()
    place = Place((0,), "127.0.0.1", "127.0.0.1", 0, 0.2)
    writer = RemoteWriter(host, "writer", place, bytes(32), keys, secret, (1000, 4000, 4000))
    monkeypatch.setattr(writer, "_flow", ends.sender)
    dead_after = []

    def look() -> None:
        dead_after.append(list(host.dead))
        if len(dead_after) == 1:
            reader.connect()
            ends.run()
            reader.cut()
        writer._heard()

    try:
        writer.start(asyncio.get_running_loop())
        reader = ends.join(0)
        reader.cut()
        monkeypatch.setattr(writer.router, "look", look)
        writer._heard()
        await until(lambda: bool(host.dead))
        assert (host.dead, dead_after) == ([0], [[], []])
    finally:
        writer.close()
