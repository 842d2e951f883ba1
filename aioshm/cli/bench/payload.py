"""What the bench sends, and how a reader proves that it got just that.

A message carries its number, which counts from 0 without a hole, and a checksum of its
body, made before the clock runs. Bodies are random, a few of them taken in turn, so that
what was left of an earlier message shows. Up to 4 KiB the CRC-32 is of the whole body;
of a larger one it is of every 1009th byte, and of all of them in each sixteenth message:
to check each byte of 1 MiB takes longer than to move it, and the figures would be of that.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any
from zlib import crc32

from aioshm import PickleCodec

SMALL = 90
"""Bytes of the small dict, pickled."""

KINDS = ("dict", "bytes", "numpy")

_BODIES = 7
_WHOLE = 4096
_STRIDE = 1009
_ALL_EVERY = 16
_KEPT = 3


class Payload:
    """The messages of one kind and size.

    Args:
        kind: one of `KINDS`; a dict is whole as it stands, the others are the last of a
            tuple.
        size: bytes of the body, for a dict of the pickled message.

    Attributes:
        make: the message of a number.
        right: whether a message is the one of that number.
        look_every: messages after which to look at the clock: seldom if they are small.
    """

    def __init__(self, kind: str, size: int) -> None:
        bodies = [_BODY[kind](random.Random(number), size) for number in range(_BODIES)]
        stride = 1 if size <= _WHOLE else _STRIDE
        checksum = _CHECKSUM[kind]
        some = [checksum(body, stride) for body in bodies]
        whole = [checksum(body, 1) for body in bodies]

        def crc_of(number: int) -> int:
            return (some if number % _ALL_EVERY else whole)[number % _BODIES]

        def make(number: int) -> Any:
            return (number, crc_of(number), bodies[number % _BODIES])

        def make_dict(number: int) -> Any:
            return {"step": number, "crc": crc_of(number), **bodies[number % _BODIES]}

        def right(number: int, message: Any) -> bool:
            found, crc, body = message
            steps = stride if number % _ALL_EVERY else 1
            return bool(found == number and checksum(body, steps) == crc)

        def right_dict(number: int, message: Any) -> bool:
            steps = stride if number % _ALL_EVERY else 1
            return bool(message["step"] == number and checksum(message, steps) == message["crc"])

        # The same in fewer calls: they are a good part of what a small message costs.
        small = (
            [{"crc": crc, **body} for crc, body in zip(whole, bodies, strict=True)]
            if kind == "dict"
            else []
        )

        def make_small_dict(number: int) -> Any:
            return {"step": number, **small[number % _BODIES]}

        def right_small_dict(number: int, message: Any) -> bool:
            crc = crc32(message["text"].encode() + bytes(message["tokens"]))
            return bool(message["step"] == number and message["crc"] == crc)

        self.make, self.right = (make_dict, right_dict) if kind == "dict" else (make, right)
        if kind == "dict" and stride == 1:
            self.make, self.right = make_small_dict, right_small_dict
        self.look_every = max(1, min(64, 65536 // size))

    def encoded(self) -> int:
        """Bytes of a message as it is sent, all its frames together."""
        return sum(memoryview(frame).nbytes for frame in PickleCodec().encode(self.make(1)))


class Verifier:
    """One reader's proof: every number once and in order, every checksum right.

    Args:
        payload: what is sent.

    Attributes:
        messages: messages seen.
    """

    def __init__(self, payload: Payload) -> None:
        self._right = payload.right
        self.messages = self._wrong = 0
        self._problems: list[str] = []

    def see(self, message: Any) -> None:
        """Check the next message."""
        right, number = self._right, self.messages
        self.messages = number + 1
        try:
            if right(number, message):
                return
        except Exception as error:
            self._note(f"message {number}: {type(error).__name__}: {error}")
        else:
            self._note(f"message {number} is another one, or its checksum is wrong")

    def _note(self, problem: str) -> None:
        self._wrong += 1
        if len(self._problems) < _KEPT:
            self._problems.append(problem)

    def report(self) -> dict[str, Any]:
        """Give the counts, as JSON can carry them."""
        return {"messages": self.messages, "wrong": self._wrong, "problems": self._problems}


# -- bodies and their checksums ---------------------------------------------------------------


def _bytes(source: random.Random, size: int) -> bytes:
    return source.randbytes(size)


def _dict(source: random.Random, size: int) -> dict[str, Any]:
    body: dict[str, Any] = {"tokens": list(source.randbytes(max(2, size // 16))), "text": ""}
    rest = size - len(pickle.dumps({"step": 1000, "crc": 1 << 31, **body}, 5))
    body["text"] = "".join(source.choices("abcdefghijklmnopqrstuvwxyz ", k=max(1, rest)))
    return body


def _numpy(source: random.Random, size: int) -> Any:
    import numpy

    return numpy.frombuffer(source.randbytes(size), dtype=numpy.int64).copy()


def _crc_of_bytes(body: bytes, stride: int) -> int:
    return crc32(body if stride == 1 else body[::stride])


def _crc_of_dict(body: dict[str, Any], stride: int) -> int:
    tokens, text = body["tokens"], body["text"]
    if stride != 1:
        tokens, text = tokens[::stride], text[::stride]
    return crc32(bytes(tokens), crc32(text.encode()))


def _crc_of_numpy(body: Any, stride: int) -> int:
    return crc32(body if stride == 1 else body.data.cast("B")[::stride].tobytes())


_BODY: dict[str, Callable[[random.Random, int], Any]] = {
    "bytes": _bytes, "dict": _dict, "numpy": _numpy,
}  # fmt: skip
_CHECKSUM: dict[str, Callable[[Any, int], int]] = {
    "bytes": _crc_of_bytes, "dict": _crc_of_dict, "numpy": _crc_of_numpy,
}  # fmt: skip
