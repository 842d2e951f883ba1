"""The packets of admission, as bytes: pure, and wary of what comes in.

::

    reader → writer   hello     magic, version, rank, pid, token
                      goodbye   one byte; then the reader closes
    writer → reader   welcome   one byte, what the reader must know, four descriptors
                      refused   one byte, the reason
                      closed    one byte: the writer closed before it let this reader in
                      ready     one byte: all have joined

The socket is a SOCK_SEQPACKET: a packet arrives whole or not at all, so none of
these can come in pieces.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import astuple, dataclass

WIRE_VERSION = 2
LARGEST = 4096

_MAGIC = b"aioshm\r\n"
_HELLO = struct.Struct("!8sIqI32s")
_WELCOME = struct.Struct("!10Q32sB")

WELCOME = b"W"
REFUSED = b"X"
CLOSED = b"C"
READY = b"R"
GOODBYE = b"G"


@dataclass(frozen=True)
class Hello:
    """What a reader says of itself."""

    rank: int
    pid: int


@dataclass(frozen=True)
class Welcome:
    """What an admitted reader must know; the descriptors travel beside it.

    Attributes:
        payload, slot_bytes, chunks, slots: the fields of the layout.
        slot: the slot this reader was given.
        position, number: where it starts, in bytes and in messages.
        ready: 1 if all readers have joined before.
        pid: the writer's process id.
        peer, key: what this reader calls itself where large messages come from, and the
            secret of 32 bytes that shows it.
        overflow: the name of the socket for them, in the folder of the link.
    """

    payload: int
    slot_bytes: int
    chunks: int
    slots: int
    slot: int
    position: int
    number: int
    ready: int
    pid: int
    peer: int = 0
    key: bytes = bytes(32)
    overflow: str = ""


def pack_hello(rank: int, pid: int, token: bytes) -> bytes:
    """Build the first packet of a reader."""
    return _HELLO.pack(_MAGIC, WIRE_VERSION, rank, pid, token)


def unpack_hello(packet: bytes, token: bytes) -> Hello | str | None:
    """Read the first packet of a connection.

    Returns:
        What the reader says; or why it is refused; or None for a stranger, who is
        told nothing.
    """
    if not packet.startswith(_MAGIC) or len(packet) < len(_MAGIC) + 4:
        return None
    version = int.from_bytes(packet[8:12], "big")
    if version != WIRE_VERSION:
        return (
            f"the reader's aioshm speaks version {version}, the writer's version {WIRE_VERSION}; "
            "install the same aioshm at both ends"
        )
    if len(packet) != _HELLO.size:
        return None
    _, _, rank, pid, given = _HELLO.unpack(packet)
    if not hmac.compare_digest(given, token):
        return (
            "wrong token: the handle belongs to another queue; use the one that this queue's "
            "export_handle() gave"
        )
    return Hello(rank, pid)


def pack_welcome(welcome: Welcome) -> bytes:
    """Build the packet that lets a reader in."""
    *fixed, overflow = astuple(welcome)
    return b"".join((WELCOME, _WELCOME.pack(*fixed, len(overflow)), overflow.encode("ascii")))


def unpack_welcome(packet: bytes) -> Welcome | None:
    """Read the packet that lets a reader in; None if it is not one."""
    if packet[:1] != WELCOME or len(packet) < 1 + _WELCOME.size:
        return None
    *fixed, length = _WELCOME.unpack_from(packet, 1)
    overflow = packet[1 + _WELCOME.size :]
    if len(overflow) != length or not overflow.isascii():
        return None
    values = (*fixed, overflow.decode())
    return Welcome(*values)


def pack_refusal(reason: str) -> bytes:
    """Build the packet that keeps a reader out."""
    return REFUSED + reason.encode()[: LARGEST - 1]
