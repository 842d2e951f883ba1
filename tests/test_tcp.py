"""The sockets to other machines: where they listen, whom they count, and what they leave."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import pytest
import zmq

from aioshm.links.curve import Keys, new_keys
from aioshm.links.flow_remote import Joined, RemoteSender
from aioshm.links.tcp import TcpRouter
from tests.helpers import descriptors, until
from tests.tcp_links import KEY, Guest, Station


def connections() -> set[str]:
    """The inodes of all TCP sockets of this process."""
    ours = set(descriptors().values())
    found = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/self/net/{table}") as lines:
            found |= {f"socket:[{line.split()[9]}]" for line in list(lines)[1:]}
    return found & ours


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_reader_joins_and_reads_over_either_family(address: str) -> None:
    with Station(0, address=address) as station, Guest(station) as guest:
        station.tell()
        await guest.until(lambda events: "ready" in events)
        assert station.joined == [Joined(0, os.getpid())]
        assert station.router.addresses == {0: address}
        station.write(b"message")
        await until(lambda: guest.take() == b"message")
        await until(lambda: not station.flow.messages)
        assert (station.flow.breaches, station.router.strangers) == (0, 0)


async def test_a_port_that_is_taken_is_told_and_nothing_is_left_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        keys, secret = new_keys()
        before = descriptors()
        with pytest.raises(
            OSError, match=f"cannot listen at tcp://127.0.0.1:{port}: .*in use"
        ) as e:
            TcpRouter(RemoteSender((0,), KEY), "127.0.0.1", port, keys, secret, 5.0, lambda: None)
        assert e.value.errno == errno.EADDRINUSE
        await until(lambda: descriptors() == before)


async def test_a_router_listens_before_it_has_a_loop() -> None:
    with Station(start=False) as station:
        socket.create_connection(("127.0.0.1", station.router.port)).close()


async def test_who_fails_the_handshake_is_counted_and_does_not_disturb() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        socket.create_connection(("127.0.0.1", station.router.port)).close()  # a port scanner
        await until(lambda: station.router.strangers)
        noises, (other, _) = station.router.strangers, new_keys()
        context = zmq.Context()
        with context.socket(zmq.DEALER) as dealer:
            wrong = Keys(station.keys.server, other.public, other.secret)
            for option, value in {zmq.LINGER: 0, **wrong.client_options()}.items():
                dealer.setsockopt(option, value)
            dealer.connect(station.where)
            await until(lambda: station.router.strangers > noises)
        context.term()
        station.write(b"x")
        await until(lambda: guest.take() == b"x")
        assert station.flow.breaches == 0


async def test_a_connection_that_is_lost_is_noticed_without_anything_to_send() -> None:
    with Station(0, 1) as station, Guest(station, 1) as stays:
        with Guest(station, 0) as goes:
            await until(lambda: goes.client.joined and stays.client.joined)
            assert station.flow.lost_ranks == []
        await until(lambda: station.flow.lost_ranks == [0])
        assert station.events[-1][1] == (0,)  # the owner was told
        station.write(b"x")
        await until(lambda: stays.take() == b"x")


@pytest.mark.parametrize("first", ["router", "guest"])
async def test_closed_in_any_order_all_descriptors_are_given_back(first: str) -> None:
    before = descriptors()
    station = Station(0)
    guest = Guest(station)
    await until(lambda: guest.client.joined)
    ends = [station.router.close, guest.client.close]
    for close in ends if first == "router" else ends[::-1]:
        close()
        await asyncio.sleep(0)
        close()  # safe
    await until(lambda: descriptors() == before)


async def test_a_forked_child_keeps_no_tcp_socket_of_its_parent() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        assert len(connections()) == 3  # it listens; and the two ends of the connection
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.write(write, bytes([len(connections())]))
            os._exit(0)
        os.close(write)
        assert os.read(read, 1) == b"\0"
        os.close(read)
        os.waitpid(child, 0)
        station.write(b"still")
        await until(lambda: guest.take() == b"still")
