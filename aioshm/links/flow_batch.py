"""Small messages that travel as one: what the program sends, as messages of the flow.

A message of the flow costs some tens of microseconds at either end, whatever its size.
So the small messages of a turn of the loop, or of a few, go as one *batch*, and only a
large one, or one of several frames, goes alone. Each is marked by a last frame, so that
the first is still the message's own::

    batch    [ payloads, one after the other ]        [ kind, number, lengths ]
    alone    [ frame ] [ frame ] …                    [ kind, number ]

The number is that of the (first) message, counted from the writer's first. It shows a
reader what it missed. An *urgent* batch is of another kind: the writer begins to run short
of room, and wants to know at once when it was read; whoever goes alone is always urgent.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from aioshm.codec import Buffer
from aioshm.shm.layout import OBJECT, RAW

SMALL = 1 << 14
"""Bytes of the largest message that travels in a batch."""

_HEAD = struct.Struct("!BQ")
_LENGTH_BYTES = 4
_BATCH, _URGENT_BATCH = 0, 0x80


class Batch(NamedTuple):
    """Messages as they arrived.

    Attributes:
        kind: what all of them are, OBJECT or RAW.
        number: of the first one.
        messages: the frames of each.
        urgent: the writer may wait for them to be acknowledged.
    """

    kind: int
    number: int
    messages: list[list[Buffer]]
    urgent: bool = True


def pack_batch(number: int, payloads: Sequence[bytes], *, urgent: bool = True) -> list[Buffer]:
    """Build the frames of a batch of objects of one frame each."""
    lengths = struct.pack(f"!{len(payloads)}I", *map(len, payloads))
    return [b"".join(payloads), _HEAD.pack(_URGENT_BATCH if urgent else _BATCH, number) + lengths]


def pack_alone(kind: int, number: int, frames: Sequence[Buffer]) -> list[Buffer]:
    """Build the frames of one message."""
    return [*frames, _HEAD.pack(kind, number)]


def unpack(frames: list[Buffer]) -> Batch | str:
    """Read what arrived; or say what is wrong with it."""
    mark = frames[-1]
    if len(frames) < 2 or len(mark) < _HEAD.size:
        return f"a message of {len(frames)} frames without a mark"
    kind, number = _HEAD.unpack_from(mark)
    if kind not in (_BATCH, _URGENT_BATCH):
        if kind not in (OBJECT, RAW) or len(mark) != _HEAD.size:
            return f"a message of kind {kind}"
        return Batch(kind, number, [frames[:-1]])
    count, rest = divmod(len(mark) - _HEAD.size, _LENGTH_BYTES)
    payload = frames[0]
    if rest or not count or len(frames) != 2:
        return f"a batch of {len(frames)} frames and {len(mark)} bytes of lengths"
    ends = list(accumulate(struct.unpack_from(f"!{count}I", mark, _HEAD.size)))
    if ends[-1] != len(payload):
        return f"a batch of {len(payload)} bytes where its lengths come to {ends[-1]}"
    messages: list[list[Buffer]] = [[payload[a:b]] for a, b in pairwise([0, *ends])]
    return Batch(OBJECT, number, messages, kind == _URGENT_BATCH)
