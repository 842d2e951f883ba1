"""A reader's half of the link to another machine: in, back, out, and when it stops waiting."""

from __future__ import annotations

import gc
import weakref

import pytest

from aioshm import AdmissionRefused, Evicted, QueueShutDown
from aioshm.links.flow_remote import Joined, Left
from tests.helpers import until
from tests.tcp_links import Guest, Station, free_port


async def test_it_joins_and_hears_that_all_have() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        assert guest.client.connected
        assert "ready" not in guest.events
        station.tell()
        await guest.until(lambda events: "ready" in events)
        station.tell()
        station.write(b"x")
        await until(lambda: guest.take() == b"x")
        assert guest.events.count("ready") == 1


async def test_a_rank_that_is_taken_is_refused_and_the_client_lets_go() -> None:
    with Station(0) as station, Guest(station) as first:
        await until(lambda: first.client.joined)
        with Guest(station) as second:
            await until(second.error)
            assert isinstance(second.error(), AdmissionRefused)
            assert not second.client.connected
        assert first.client.connected


async def test_a_closed_queue_lets_nobody_in() -> None:
    with Station(0) as station:
        station.tell(closed=True)
        with Guest(station) as guest:
            await until(guest.error)
            assert isinstance(guest.error(), QueueShutDown)


async def test_an_evicted_reader_is_told_so() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        station.flow.evict(0)
        station.router.wake()
        await until(guest.error)
        assert isinstance(guest.error(), Evicted)
        assert guest.client.left()  # there is nobody to say goodbye to


async def test_a_goodbye_is_heard_and_confirmed() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        assert guest.client.left()  # it has said none
        guest.client.say_goodbye()
        assert guest.client.left() is None
        await until(guest.client.left)
        assert station.joined[1:] == [Left(0)]
        assert guest.error() is None


async def test_a_reader_that_took_the_last_message_of_a_closed_queue_leaves_by_itself() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        station.write(b"last")
        station.tell(closed=True)
        await until(lambda: guest.client.inbox.look() is True)
        assert station.flow.live_ranks == [0]
        assert guest.take() == b"last"
        await until(lambda: not station.flow.live_ranks)
        assert guest.client.inbox.end(gone=False) is True


async def test_nobody_there_is_the_writers_end_and_says_why() -> None:
    with Station(0) as station:
        station.where = f"tcp://127.0.0.1:{free_port()}"
        with Guest(station, peer_timeout=0.2) as guest:
            await guest.until(lambda events: "gone" in events)
            assert guest.client.gone
            assert guest.client.trouble == "Connection refused"
            assert not guest.client.joined


async def test_another_queues_writer_at_the_address_is_told_apart() -> None:
    with Station(0) as station, Station(0) as other:
        station.where = other.where
        with Guest(station, peer_timeout=0.5) as guest:
            await guest.until(lambda events: "gone" in events)
            assert guest.client.trouble
        await until(lambda: other.router.strangers)
        assert other.joined == []


async def test_a_writer_that_is_gone_for_too_long_is_noticed() -> None:
    with Station(0, peer_timeout=0.2) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        station.router.close()
        await until(lambda: not guest.client.connected)
        await guest.until(lambda events: "gone" in events)
        assert guest.client.left()


async def test_what_was_taken_is_acknowledged_while_more_is_at_hand() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        for number in range(3):
            station.write(b"%d" % number)
        await until(lambda: guest.client.inbox.look() is True and guest.client.inbox.has_more())
        assert guest.take() == b"0"
        await until(lambda: station.flow.messages == 2)


async def test_a_batch_that_is_not_urgent_is_acknowledged_a_little_later() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        for urgent in (False, True):
            station.batch([b"x"], urgent=urgent)
            await until(lambda: guest.client.inbox.look() is True)
            assert guest.take() == b"x"
            # Whether it is on its way, before anything else can run.
            assert guest.client._flow._ack_due is urgent
            await until(lambda: not station.flow.messages)


async def test_many_are_acknowledged_at_once() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        for number in range(30):
            station.write(b"%d" % number)
        await until(lambda: guest.client.inbox._flow.body(29))
        assert [guest.take() for _ in range(30)] == [b"%d" % number for number in range(30)]
        await until(lambda: not station.flow.messages)


async def test_a_client_does_not_keep_its_guest_alive() -> None:
    with Station(0) as station:
        guest = Guest(station)
        client, reference = guest.client, weakref.ref(guest)
        await until(lambda: client.joined)
        del guest
        gc.collect()
        assert reference() is None
        station.tell()
        await until(lambda: client._flow.state is not None and client._flow.state.ready)
        client.close()


async def test_an_address_that_is_none_is_refused_at_once() -> None:
    with Station(0) as station:
        station.where = "tcp://host"
        with pytest.raises(ValueError, match="was expected"):
            Guest(station)


async def test_the_same_reader_is_back_after_a_lost_connection_and_joins_once() -> None:
    with Station(0) as station, Guest(station) as guest:
        await until(lambda: guest.client.joined)
        dealer = guest.client._dealer
        assert dealer is not None
        dealer._socket.disconnect(station.where)
        await until(lambda: station.flow.lost_ranks == [0])
        station.write(b"meanwhile")
        dealer._socket.connect(station.where)
        await until(lambda: guest.take() == b"meanwhile")
        assert [type(event) for event in station.joined] == [Joined]
