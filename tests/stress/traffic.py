"""Messages that tell whether they are lost, doubled, torn or out of order.

Each carries its sequence number and a CRC over the number and the payload, in one of
three forms: ``bytes`` in pickle's stream, a ``dict`` whose large parts travel out of band,
and raw bytes written in place by a lease. Sizes go from 0 to the largest the ring takes,
so that records end everywhere and padding of every size is met at the wrap.
"""

from __future__ import annotations

import pickle
import random
import struct
import zlib
from typing import Any

_HEAD = struct.Struct("=QI")
_IN_STREAM = 64
"""Bytes that pickle adds around the payload of a form, and more."""

FORMS = ("bytes", "dict", "lease")


class Source:
    """Makes messages, the same ones for the same seed.

    Args:
        seed: of sizes, forms and payloads.
        largest: the ring's max_chunk_bytes.
    """

    def __init__(self, seed: str, largest: int) -> None:
        self._random = random.Random(seed)
        self._largest = largest
        self._pool = self._random.randbytes(2 * largest)

    def size(self) -> int:
        """Draw a payload's size: mostly small, some up to the limit, some right at it."""
        draw = self._random.random()
        if draw < 0.9:
            return int(draw * 250)
        room = self._largest - _HEAD.size
        return room if draw > 0.998 else int(self._random.random() ** 2 * room)

    def form(self, size: int) -> str:
        """Draw a form; large messages come in every form alike, small ones mostly as bytes."""
        draw = self._random.random()
        return FORMS[int(draw * 3) if size > 250 or draw < 0.1 else 0]

    def payload(self, size: int) -> bytes:
        """Draw a payload of `size` bytes."""
        start = int(self._random.random() * self._largest)
        return self._pool[start : start + size]


def packed(number: int, payload: bytes) -> bytes:
    """The message as bytes, for the stream or a lease."""
    return _HEAD.pack(number, zlib.crc32(payload, number & 0xFFFFFFFF)) + payload


def as_bytes(number: int, payload: bytes, largest: int) -> bytes:
    """The message as one bytes object, cut to what pickle leaves room for."""
    return packed(number, payload[: largest - _HEAD.size - _IN_STREAM])


def as_dict(number: int, payload: bytes, largest: int) -> dict[str, Any]:
    """The message as a dict; a part of 8 KiB and more travels out of band."""
    payload = payload[: largest - 4 * _IN_STREAM]
    cut = len(payload) // 8
    parts = [payload[:cut], payload[cut:]]
    return {
        "number": number,
        "crc": zlib.crc32(payload, number & 0xFFFFFFFF),
        "parts": [pickle.PickleBuffer(bytearray(part)) for part in parts],
    }


def examine(message: Any) -> tuple[int, str]:
    """Look a message over; gives its number and what is wrong with it, if anything."""
    try:
        if isinstance(message, dict):
            number, expected = message["number"], message["crc"]
            crc = number & 0xFFFFFFFF
            for part in message["parts"]:
                crc = zlib.crc32(part, crc)
        else:
            number, expected = _HEAD.unpack_from(message)
            crc = zlib.crc32(memoryview(message)[_HEAD.size :], number & 0xFFFFFFFF)
    except Exception as error:
        return -1, f"no message of ours: {message!r:.60}: {error!r}"
    return number, "" if crc == expected else f"message {number} is torn: {message!r:.60}"
