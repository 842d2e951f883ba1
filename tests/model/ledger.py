"""Who may touch which bytes: happens-before for the records, kept beside the program.

A process knows how far bytes were filled, or copied out, before what it has acquired.
This knowledge travels on the two words that hand bytes over, and on nothing else::

    PUBLISH  store of written: "filled up to here"   ──►  load of written: may be copied
    FREE     store of read[r]: "copied up to here"   ──►  load of read[r]: may be overwritten

A release store carries all that its process did before; a relaxed store only what was
before the last full fence. An acquire load takes it over at once, a relaxed one at the
next fence. (In the modes sc and tso every store releases and every load acquires.) A
copy of bytes, in or out, that is not covered is a race in the sense of C11, and reported
even if the bytes happened to be right.

Where no access to a record can race, records need no place in the schedule: what a copy
gives is what was written to that position, once and for all. The same goes for two more
words, as nobody who lives is evicted where a ledger is kept:

* ``evicted[r]`` is 0 for whoever lives to load it.
* ``claim`` may not exceed, at its store, the capacity above what each live reader is
  known to have copied out. Then no reader ever finds it above its own position and the
  capacity, and what it loads does not matter.

A value on its way carries the knowledge as ``value + 1 << 32 | position``.
"""

from __future__ import annotations

from typing import Any

from tests.model.ops import ACQUIRE, RELEASE, Violation

_SHIFT = 32
_MASK = (1 << _SHIFT) - 1


def word(value: int) -> int:
    """The word itself, without the knowledge it carries."""
    return (value >> _SHIFT) - 1 if value > _MASK else value


class Archive:
    """What was written to each position, by any schedule: it must be the same in all."""

    def __init__(self) -> None:
        self._bytes: dict[int, bytes] = {}

    def write(self, position: int, data: bytes) -> None:
        """Fill a block."""
        if self._bytes.setdefault(position, data) != data:
            raise Violation(f"position {position} is filled with other bytes than before")

    def read(self, position: int) -> bytes:
        """Copy a block out."""
        return self._bytes[position]


class Ledger:
    """The knowledge of one process.

    Args:
        ring: the process's ring.
        archive: the bytes.
        strong: every store releases and every load acquires.
        block: bytes copied in one piece.
        capacity: bytes of the ring.
        gives: the word by which this process hands bytes over.
        takes: for each word by which it is handed bytes, the slot that holds it back.
    """

    def __init__(
        self,
        ring: Any,
        archive: Archive,
        strong: bool,
        block: int,
        capacity: int,
        gives: int,
        takes: dict[int, int],
    ) -> None:
        self._ring, self._archive = ring, archive
        self._strong, self._block, self._capacity = strong, block, capacity
        self._gives, self._takes = gives, takes
        self._done = self._fenced = 0
        self._known = dict.fromkeys(takes.values(), 0)
        self._hinted = dict.fromkeys(takes.values(), 0)

    def _position(self, at: int) -> int:
        """Position of the block at this offset, at or above ours."""
        position: int = self._ring.position
        return position + (at - position) % self._capacity

    def copy_out(self, at: int) -> bytes:
        """Copy a block out of the ring; was it filled before?"""
        position = self._position(at)
        end = position + self._block
        for slot, known in self._known.items():
            if known < end:
                raise Violation(
                    f"race: bytes {position} to {end} are copied out, and nothing that was "
                    f"acquired says that they were filled (known: up to {known}, slot {slot})"
                )
        self._done = max(self._done, end)
        return self._archive.read(position)

    def copy_in(self, at: int, data: bytes) -> None:
        """Overwrite a block; did every live reader copy out what was there before?"""
        position = self._position(at)
        end = position + self._block
        self._check_room(end, f"bytes {position} to {end} overwrite what", self._known)
        self._done = max(self._done, end)
        self._archive.write(position, data)

    def claims(self, limit: int) -> None:
        """Say that all below this limit will be overwritten; this is not done yet."""
        hoped = {slot: max(known, self._hinted[slot]) for slot, known in self._known.items()}
        self._check_room(limit, f"claim = {limit} covers what", hoped)

    def _check_room(self, end: int, what: str, table: dict[int, int]) -> None:
        for slot in self._ring._live:
            known = table[slot]
            if known < end - self._capacity:
                raise Violation(
                    f"race: {what} slot {slot} may not have copied out yet (known: up to {known})"
                )

    def to_store(self, place: int, value: int, order: int) -> int:
        """Load a word with what is known."""
        if place != self._gives:
            return value
        known = self._done if order == RELEASE or self._strong else self._fenced
        return (value + 1) << _SHIFT | known

    def loaded(self, place: int, value: int, order: int) -> int:
        """Unload a word."""
        if value > _MASK:
            known, value = value & _MASK, (value >> _SHIFT) - 1
            if place in self._takes:
                slot = self._takes[place]
                now = order == ACQUIRE or self._strong
                table = self._known if now else self._hinted
                table[slot] = max(table[slot], known)
        return value

    def fenced(self, *, loads_only: bool) -> None:
        """All loads before are acquired now, and all stores to come released."""
        for slot, known in self._hinted.items():
            self._known[slot] = max(self._known[slot], known)
        if not loads_only:
            self._fenced = self._done
