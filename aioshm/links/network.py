"""Which address of this machine readers on others connect to."""

from __future__ import annotations

import errno
import ipaddress
import socket

# Nothing is sent there: they only have the kernel choose a source. Both are addresses for
# documentation, RFC 5737 and RFC 3849.
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def own_address() -> str:
    """Ask the routing table for the address that this machine has for others.

    Raises:
        OSError: there is no route to anywhere.
    """
    for family, elsewhere in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((elsewhere, 9))
                return str(sock.getsockname()[0])
        except OSError:
            continue
    raise OSError(
        errno.ENETUNREACH,
        "the routing table names no address of this machine that others could connect to; "
        "give MessageQueue.create one as connect_ip",
    )


def resolve(what: str, name: str) -> str:
    """Turn a name or an address into an address; asks the system's resolver.

    Args:
        what: the argument it came by, for errors.
        name: what the user gave.

    Raises:
        ValueError: a wildcard.
        OSError: the name does not resolve.
    """
    bare = name.removeprefix("[").removesuffix("]")
    try:
        # Without a name "" and "*" would mean any address.
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM) if bare.strip("*") else []
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OSError(
            errno.EADDRNOTAVAIL,
            f"{what}={name!r} does not resolve ({why}); give an address of this machine",
        ) from error
    address = str(found[0][4][0]) if found else "0.0.0.0"
    ip = ipaddress.ip_address(address.partition("%")[0])
    # IPv6 has a spelling for any address of IPv4, too.
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    if (mapped or ip).is_unspecified:
        raise ValueError(
            f"{what}={name!r} would listen at every address of this machine; give one of them"
        )
    return address


def check_own(what: str, address: str) -> None:
    """Make sure that an address belongs to this machine.

    Raises:
        OSError: it does not.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            raise OSError(
                error.errno,
                f"{what}={address!r} is not an address of this machine ({error.strerror}); for one "
                "that leads here through NAT give it as connect_ip, and a local one as bind_ip",
            ) from error


def endpoint(address: str, port: int | str) -> str:
    """Write an address and a port as ZeroMQ wants them."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def parse(where: str) -> tuple[str, int]:
    """Read what `endpoint` wrote.

    Raises:
        ValueError: it is something else.
    """
    scheme, _, rest = where.partition("://")
    host, _, port = rest.rpartition(":")
    address = host.removeprefix("[").removesuffix("]")
    if scheme != "tcp" or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{where!r} where tcp://address:port was expected")
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise ValueError(f"{where!r}: {error}; the writer's address belongs there") from None
    return address, int(port)
