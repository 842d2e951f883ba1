"""What the real code holds in its hands instead of shared memory, bells and a loop.

`ask` is the one way out: each access of the code under test becomes an operation
(ops.py), and its result comes from the log of the process that is being run, or, where
the log ends, the run pauses (process.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any

from aioshm.shm.layout import CLAIM, CLOSED, WAKE_AT, WRITTEN, Layout
from aioshm.shm.layout import HEADER as REAL_HEADER
from tests.model.ledger import Ledger
from tests.model.ops import (
    ACQUIRE,
    FENCE,
    FENCE_LOADS,
    LOAD,
    RELAXED,
    RELEASE,
    RING,
    STORE,
    Op,
)


class Outside:
    """Where operations of the process that is being run go to.

    Attributes:
        ask: takes an operation, gives its result.
        ledger: the ledger of the process, if it has one.
        loaded, stored: what it last loaded from each word, and stored, in this round.
    """

    def __init__(self) -> None:
        self.ask: Callable[[Op], Any] = lambda op: None
        self.ledger: Ledger | None = None
        self.loaded: dict[int, int] = {}
        self.stored: dict[int, int] = {}


OUTSIDE = Outside()


class Places:
    """Which simulated place stands for which word, flag or block of which segment.

    Args:
        layout: the sizes of the two segments.
        block: bytes of a record that are one place: what a copy takes in one piece.
    """

    def __init__(self, layout: Layout, block: int) -> None:
        self.layout, self.block = layout, block
        self.names: list[str] = []
        self.written, self.wake_at, self.closed = map(self._new, ("written", "wake_at", "closed"))
        self.parked, self.read = [], []
        for slot in range(layout.slots):
            self.parked.append(self._new(f"parked[{slot}]"))
            self.read.append(self._new(f"read[{slot}]"))
        # From here on what a ledger watches, so that there it need not be simulated.
        self.ordered = len(self.names)
        self.claim = self._new("claim")
        self.evicted = [self._new(f"evicted[{slot}]") for slot in range(layout.slots)]
        self.blocks = [self._new(f"bytes {at}+{block}") for at in range(0, layout.capacity, block)]
        self.data = {
            WRITTEN: self.written, CLAIM: self.claim, WAKE_AT: self.wake_at, CLOSED: self.closed
        }  # fmt: skip
        self.control = {layout.read(slot): self.read[slot] for slot in range(layout.slots)}

    def _new(self, name: str) -> int:
        self.names.append(name)
        return len(self.names) - 1


class Words:
    """A row of shared words; the index is that of the real view."""

    def __init__(self, at: dict[int, int], places: Places) -> None:
        self.at = at
        self.claim = places.claim
        self.watched = frozenset([places.claim, *places.evicted])

    def flag(self, value: int) -> int:
        """What is stored for this value."""
        return value


class Numbered(Words):
    """The parked flags as a reader stores them: not 1, but the number of the park.

    Any number but 0 is as good as 1 to the code, and tells which park a bell rings for.
    """

    def __init__(self, words: Words) -> None:
        self.at, self.claim, self.watched = words.at, words.claim, words.watched
        self.parks = 0

    def flag(self, value: int) -> int:
        """The number of the park."""
        self.parks += value
        return self.parks if value else 0


class Raw:
    """The bytes of the data segment that are records."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def _blocks(self, where: slice) -> Iterator[tuple[int, int]]:
        layout, block = self._places.layout, self._places.block
        start, stop = where.start - layout.records, where.stop - layout.records
        assert 0 <= start <= stop <= layout.capacity, f"{where} is not in the ring"
        for index in range(start // block, -(-stop // block)):
            yield index * block, self._places.blocks[index]

    def __getitem__(self, where: slice) -> bytes:
        ledger = OUTSIDE.ledger
        parts = []
        for at, place in self._blocks(where):
            if ledger is not None:
                parts.append(ledger.copy_out(at))
            else:
                parts.append(OUTSIDE.ask((LOAD, place, None, RELAXED)))
        start = (where.start - self._places.layout.records) % self._places.block
        return b"".join(parts)[start : start + where.stop - where.start]

    def __setitem__(self, where: slice, data: bytes) -> None:
        ledger, block = OUTSIDE.ledger, self._places.block
        assert where.stop - where.start == len(data)
        assert len(data) % block == (where.start - self._places.layout.records) % block == 0
        for index, (at, place) in enumerate(self._blocks(where)):
            part = data[index * block : (index + 1) * block]
            if ledger is not None:
                ledger.copy_in(at, part)
            else:
                OUTSIDE.ask((STORE, place, part, RELAXED))


class Header:
    """`layout.HEADER` over `Raw`."""

    size = REAL_HEADER.size
    pack = staticmethod(REAL_HEADER.pack)

    @staticmethod
    def unpack_from(raw: Raw, at: int) -> tuple[Any, ...]:
        """Load a header, block by block."""
        return REAL_HEADER.unpack(raw[at : at + REAL_HEADER.size])

    @staticmethod
    def pack_into(raw: Raw, at: int, *fields: int) -> None:
        """Store a header, block by block."""
        raw[at : at + REAL_HEADER.size] = struct.Struct.pack(REAL_HEADER, *fields)


class Segment:
    """Stands for a real `Segment`."""

    def __init__(self, places: Places, words: dict[int, int]) -> None:
        self._places = places
        self.raw = Raw(places)
        self.words = Words(words, places)

    def flags(self, where: slice) -> Words:
        """A row of flags."""
        layout, places = self._places.layout, self._places
        if where == layout.evicted:
            return Words(dict(enumerate(places.evicted)), places)
        assert where == layout.parked, f"there are no flags at {where}"
        return Words(dict(enumerate(places.parked)), places)


# -- aioshm.shm.ordering -----------------------------------------------------------------


def _load(words: Words, index: int, order: int) -> int:
    place, ledger = words.at[index], OUTSIDE.ledger
    if ledger is not None and place in words.watched:
        return 0
    value: int = OUTSIDE.ask((LOAD, place, None, order))
    if ledger is not None:
        value = ledger.loaded(place, value, order)
    OUTSIDE.loaded[place] = value
    return value


def _store(words: Words, index: int, value: int, order: int) -> None:
    place, ledger = words.at[index], OUTSIDE.ledger
    OUTSIDE.stored[place] = value = words.flag(value)
    if ledger is None:
        OUTSIDE.ask((STORE, place, value, order))
    elif place not in words.watched:
        OUTSIDE.ask((STORE, place, ledger.to_store(place, value, order), order))
    elif place == words.claim:
        ledger.claims(value)


def load(words: Words, index: int) -> int:
    """See ordering.py."""
    return _load(words, index, RELAXED)


def load_acquire(words: Words, index: int) -> int:
    """See ordering.py."""
    return _load(words, index, ACQUIRE)


def store(words: Words, index: int, value: int) -> None:
    """See ordering.py."""
    _store(words, index, value, RELAXED)


def store_release(words: Words, index: int, value: int) -> None:
    """See ordering.py."""
    _store(words, index, value, RELEASE)


def load_flags(flags: Words) -> bytes:
    """See ordering.py; each flag is whole, and they are loaded one by one."""
    return bytes([load(flags, slot) for slot in flags.at])


def fence() -> None:
    """See ordering.py."""
    OUTSIDE.ask((FENCE, 0, None, RELAXED))
    if OUTSIDE.ledger is not None:
        OUTSIDE.ledger.fenced(loads_only=False)


def fence_loads() -> None:
    """See ordering.py."""
    OUTSIDE.ask((FENCE_LOADS, 0, None, RELAXED))
    if OUTSIDE.ledger is not None:
        OUTSIDE.ledger.fenced(loads_only=True)


ORDERING = {
    function.__name__: function
    for function in (load, load_acquire, store, store_release, load_flags, fence, fence_loads)
}


# -- the doorbell and the loop -----------------------------------------------------------


class Bell:
    """Stands for a real `Doorbell`; hearing it is part of the PARK or TURN operation."""

    def __init__(self, number: int) -> None:
        self._number = number

    def ring(self) -> None:
        """Ring it."""
        OUTSIDE.ask((RING, self._number, None, RELEASE))

    def clear(self) -> bool:
        """It rang, or the loop would not have called."""
        return True

    def close(self) -> None:
        """Nothing to give back."""


class Sleeper:
    """Stands for an asyncio future; suspends the coroutine that awaits it."""

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        """Tell whether somebody resolved it."""
        return self._done

    def set_result(self, result: None) -> None:
        """Resolve it."""
        self._done = True

    def __await__(self) -> Generator[Sleeper, None, None]:
        if not self._done:
            yield self


class Timer:
    """A timer that never fires: no wait may need one."""

    def cancel(self) -> None:
        """Nothing to cancel."""


class Loop:
    """What of an event loop the code under test uses."""

    def create_future(self) -> Sleeper:
        """Make something to await."""
        return Sleeper()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Never call."""
        return Timer()

    def is_running(self) -> bool:
        """It is."""
        return True


LOOP = Loop()


class Nothing:
    """Accepts any call: for links, logs and other things that have no part here."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
