"""Which addresses are this machine's, which names mean one, and how they are written."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any

import pytest

from aioshm.links.network import check_own, endpoint, own_address, parse, resolve

# For documentation, RFC 5737 and RFC 3849: nobody's.
FOREIGN = ("192.0.2.77", "2001:db8::77")


@pytest.mark.parametrize("wildcard", [
    "", "*", "**", "0.0.0.0", "0", "0x0", "0.0", "000.0.0.0", "::", "[::]", "0::0", "::0",
    "0:0:0:0:0:0:0:0", "::0.0.0.0", "::ffff:0.0.0.0", "[::ffff:0:0]",
])  # fmt: skip
def test_a_wildcard_in_any_spelling_is_refused(wildcard: str) -> None:
    with pytest.raises(ValueError, match="every address of this machine.*give one"):
        resolve("bind_ip", wildcard)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        (FOREIGN[0], FOREIGN[0]),
    ],
)
def test_an_address_comes_out_as_the_system_writes_it(name: str, address: str) -> None:
    assert resolve("connect_ip", name) == address


def test_a_name_is_resolved_by_the_system() -> None:
    assert ipaddress.ip_address(resolve("connect_ip", "localhost")).is_loopback


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64, "300.1.1.1x", " "])
def test_a_name_that_does_not_resolve_says_so(name: str) -> None:
    with pytest.raises(OSError, match=f"connect_ip='{name}' does not resolve .*give an address"):
        resolve("connect_ip", name)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1"])
def test_the_loopback_addresses_are_this_machines(address: str) -> None:
    check_own("connect_ip", address)


@pytest.mark.parametrize("address", FOREIGN)
def test_an_address_of_another_machine_is_told_to_be_one(address: str) -> None:
    with pytest.raises(OSError, match=f"bind_ip='{address}' is not an address of this machine"):
        check_own("bind_ip", address)


def test_the_check_takes_no_port() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        check_own("connect_ip", "127.0.0.1")


class Routes:
    """A socket whose routing table has only some families."""

    def __init__(self, *families: int) -> None:
        self.families = families
        self.asked: list[Any] = []

    def __call__(self, family: int, kind: int) -> Routes:
        assert kind == socket.SOCK_DGRAM
        self.family = family
        return self

    def connect(self, where: Any) -> None:
        """Look for a route."""
        self.asked.append(where[0])
        if self.family not in self.families:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    def getsockname(self) -> tuple[str, int]:
        """The source that the kernel chose."""
        return ("10.1.2.3" if self.family == socket.AF_INET else "fd00::3"), 4711

    def __enter__(self) -> Routes:
        return self

    def __exit__(self, *what: object) -> None:
        pass


@pytest.mark.parametrize(
    ("families", "address"),
    [
        ((socket.AF_INET, socket.AF_INET6), "10.1.2.3"),
        ((socket.AF_INET6,), "fd00::3"),
    ],
)
def test_the_own_address_is_the_source_of_a_route_to_elsewhere(
    families: tuple[int, ...], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aioshm.links.network.socket.socket", Routes(*families))
    assert own_address() == address


def test_without_a_route_there_is_no_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = Routes()
    monkeypatch.setattr("aioshm.links.network.socket.socket", routes)
    with pytest.raises(OSError, match="give MessageQueue.create one as connect_ip") as caught:
        own_address()
    assert caught.value.errno == errno.ENETUNREACH
    assert len(routes.asked) == 2


@pytest.mark.parametrize(
    ("address", "written"),
    [("10.0.0.1", "tcp://10.0.0.1:5555"), ("::1", "tcp://[::1]:5555"),
     ("fe80::1%eth0", "tcp://[fe80::1%eth0]:5555")],
)  # fmt: skip
def test_an_endpoint_is_read_as_it_was_written(address: str, written: str) -> None:
    assert endpoint(address, 5555) == written
    assert parse(written) == (address, 5555)


@pytest.mark.parametrize("where", [
    "", "tcp://", "tcp://10.0.0.1", "tcp://10.0.0.1:", "tcp://10.0.0.1:0", "tcp://10.0.0.1:65536",
    "tcp://10.0.0.1:-1", "tcp://10.0.0.1:²", "tcp://host:5555", "tcp://:5555", "ipc:///x:1",
    "10.0.0.1:5555", "tcp://10.0.0.1:5555 ",
])  # fmt: skip
def test_what_is_no_endpoint_is_refused(where: str) -> None:
    with pytest.raises(ValueError, match="was expected|does not appear to be|belongs there"):
        parse(where)
