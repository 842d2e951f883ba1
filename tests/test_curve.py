"""The keys of a queue, and whom they let in."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest
import zmq

from aioshm.links import curve
from aioshm.links.curve import Doorkeeper, Keys, new_keys, server_options
from tests.helpers import HANG

_HANG_MS = round(HANG * 1000)


class Door:
    """A bare ROUTER behind a doorkeeper, and dealers that knock."""

    def __init__(self) -> None:
        self.keys, secret = new_keys()
        self.context = zmq.Context()
        self.doorkeeper = Doorkeeper(self.context, self.keys.public)
        self.router = self.context.socket(zmq.ROUTER)
        for option, value in server_options(secret).items():
            self.router.setsockopt(option, value)
        self.router.bind("tcp://127.0.0.1:*")
        self.where = bytes(self.router.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        self.dealers = zmq.Context()
        self.opened: list[zmq.Socket[bytes]] = []

    def knock(self, options: Mapping[int, int | bytes]) -> tuple[zmq.Socket[bytes], int]:
        """Connect, and wait for what becomes of it: the socket, and its monitor's event."""
        dealer = self.dealers.socket(zmq.DEALER)
        for option, value in {zmq.LINGER: 0, zmq.IMMEDIATE: 1, **options}.items():
            dealer.setsockopt(option, value)
        failed = (
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_DISCONNECTED
        )
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | failed)
        self.opened += [dealer, monitor]
        dealer.connect(self.where)
        assert monitor.poll(_HANG_MS)
        return dealer, int.from_bytes(monitor.recv_multipart()[0][:2], "little")

    def close(self) -> None:
        """Close everything."""
        for sock in self.opened:
            sock.close(linger=0)
        self.dealers.destroy(linger=0)
        self.router.close(linger=0)
        self.doorkeeper.close()
        self.context.destroy(linger=0)


@pytest.fixture
def door() -> Iterator[Door]:
    """A router that is open to the holders of one key."""
    made = Door()
    yield made
    made.close()


def test_every_queue_has_keys_of_its_own() -> None:
    (one, secret), (other, other_secret) = new_keys(), new_keys()
    texts = [one.server, one.public, one.secret, other.server, other.public, other.secret]
    assert len({*texts, secret.decode(), other_secret.decode()}) == 8
    assert {len(text) for text in texts} == {40}
    assert zmq.curve_public(secret).decode() == one.server
    assert zmq.curve_public(one.secret.encode()).decode() == one.public


def test_the_secret_is_not_shown() -> None:
    keys, _ = new_keys()
    assert keys.secret not in repr(keys)
    assert keys.public in repr(keys)


def test_a_libzmq_without_curve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioshm.links.curve.zmq.has", lambda what: what != "curve")
    with pytest.raises(OSError, match="no CURVE.*install pyzmq's own wheel"):
        new_keys()


def test_the_right_key_is_let_in(door: Door) -> None:
    dealer, event = door.knock(door.keys.client_options())
    assert event == zmq.EVENT_HANDSHAKE_SUCCEEDED
    dealer.send(b"hello")
    assert door.router.poll(_HANG_MS)
    assert door.router.recv_multipart()[1] == b"hello"


@pytest.mark.parametrize("who", ["no key", "a wrong key of the writer", "a key not on the list"])
def test_nobody_else_is(door: Door, who: str) -> None:
    other, _ = new_keys()
    if who == "no key":
        options: Mapping[int, int | bytes] = {}
    elif who == "a key not on the list":
        options = Keys(door.keys.server, other.public, other.secret).client_options()
    else:
        options = Keys(other.server, door.keys.public, door.keys.secret).client_options()
    dealer, event = door.knock(options)
    assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED
    with pytest.raises(zmq.Again):
        dealer.send(b"hello", zmq.NOBLOCK)
    # Whoever may come in afterwards does, and nothing of the other came before.
    friend, event = door.knock(door.keys.client_options())
    assert event == zmq.EVENT_HANDSHAKE_SUCCEEDED
    friend.send(b"friend")
    assert door.router.poll(_HANG_MS)
    assert door.router.recv_multipart()[1] == b"friend"
    assert not door.router.poll(0)


def test_the_list_is_for_one_domain_and_one_key() -> None:
    keys, _ = new_keys()
    listed = curve._OneKey(keys.public)
    assert listed.callback("aioshm", keys.public.encode())
    assert not listed.callback("other", keys.public.encode())
    assert not listed.callback("aioshm", keys.server.encode())
    assert not listed.callback("aioshm", b"")


def test_the_thread_ends_with_the_doorkeeper() -> None:
    before = threading.active_count()
    door = Door()
    assert threading.active_count() == before + 1
    door.close()
    assert threading.active_count() == before
