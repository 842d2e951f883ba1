"""Where readers on other machines connect, and what is too large for them."""

from __future__ import annotations

import asyncio

import pytest

from aioshm import MessageQueue, MessageTooLarge
from aioshm.ends.remote_writer import Place, place_for
from tests.helpers import HANG


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
