"""What the simulated processes do: the real ends over the real ring, a message at a time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from aioshm.errors import Evicted, QueueShutDown, SegmentError, WriterDied
from aioshm.handle import Handle
from tests.model.code import Code
from tests.model.ops import CHOOSE, LOAD, RELAXED, STORE, Violation
from tests.model.simulated import LOOP, OUTSIDE, Bell, Nothing, Numbered, Places, Segment

_SHORT = 64
"""Calls that may go the short way: more than any round makes."""

CLOSED, RESTS, DIED, EVICTED, BROKEN = "closed", "rests", "writer died", "evicted", "broken"


class World:
    """The two segments, their bells and the messages, as all programs share them.

    Args:
        code: the version of the code that runs.
        places: the simulated memory.
        sizes: bytes of each message's payload.
    """

    def __init__(self, code: Code, places: Places, sizes: tuple[int, ...]) -> None:
        self.code, self.places, self.sizes = code, places, sizes
        self.data = Segment(places, places.data)
        self.control = Segment(places, places.control)

    def message(self, number: int) -> bytes:
        """The bytes of a message: each of them tells which message it belongs to."""
        return bytes([number + 1]) * self.sizes[number]


def _end(kind: Any, code: Code, ring: Any) -> Any:
    """An end that is bound, ready and open, without a link."""
    waiting = code["aioshm.waiting"]
    simulated: Any = type("Simulated", (kind,), {"__del__": _collected})
    end = simulated.__new__(simulated)
    end._waiter = waiting.Waiter(waiting.Backoff(yield_for=0.0, min_sleep=1.0, max_sleep=1.0))
    end._waiter._loop, end._waiter._parking = LOOP, ring
    end._handle = Handle(name="model", path="", token="", ranks=(), pid=1, codec="")
    end._ring = ring
    end._gathering = end._server = end._client = end._link = Nothing()
    end._loop, end._thread = LOOP, threading.get_ident()
    end._runs = end._loop.is_running
    end._ready = end._open = True
    end._closed = end._forked = False
    end._short, end._kept, end._rung = _SHORT, 0, 0
    end._bells, end._segments = [], []
    end._encode, end._decode_frames = _encode, _decode
    end._late = _late
    return end


def _late(waited: float, over: bool) -> None:
    """No time passes here, so nobody is late."""


def _collected(end: Any) -> None:
    """It holds nothing that would have to be given back."""


def _encode(obj: bytes) -> tuple[bytes]:
    return (obj,)


def _decode(frames: list[bytes]) -> bytes:
    return frames[0]


class _WritersBell(Bell):
    """The writer's bell in a reader's hands, which must not ring for nothing."""

    def __init__(self, reader: Reader, wake_at: int) -> None:
        super().__init__(0)
        self._reader, self._wake_at = reader, wake_at

    def ring(self) -> None:
        """Ring it, if this round took the reader past the position the writer asks for."""
        wake_at = OUTSIDE.loaded.get(self._wake_at, 0)
        if wake_at <= self._reader.began_at:
            raise Violation(f"the reader rings for wake_at = {wake_at}, which it passed before")
        super().ring()


class _ReadersBell(Bell):
    """A reader's bell in the writer's hands, which must ring once for each park at most."""

    def __init__(self, slot: int, parked: int) -> None:
        super().__init__(slot + 1)
        self._slot, self._parked = slot, parked
        self.rung = 0

    def ring(self) -> None:
        """Ring it, if it did not ring for this park yet."""
        park = OUTSIDE.loaded[self._parked]
        if park == self.rung:
            raise Violation(f"the bell of slot {self._slot} rings twice for one park")
        self.rung = park
        super().ring()


class _Program:
    """What both programs share.

    Args:
        end: the end it works with.
        bell: the bell it hears.
        flag: the word by which it asks for a bell.
        style: how it calls the end.
    """

    def __init__(self, end: Any, bell: int, flag: int, style: str) -> None:
        self.end, self.bell, self.flag, self.style = end, bell, flag, style
        end._waiter._bell = Bell(bell)
        self.done = 0
        self.outcome = ""
        self.objects: tuple[Any, ...] = (end, end._ring, end._waiter)

    async def round(self) -> None:
        """One attempt, and the sleep after it if it came to nothing."""
        try:
            await self.attempt()
        except asyncio.CancelledError:
            pass  # nothing was done, so the next round tries the same again
        if OUTSIDE.stored.get(self.flag):
            raise Violation("it goes on without taking back its wish for a bell")
        waiter = self.end._waiter
        if waiter.rescues or waiter.length or waiter._head.locked():
            raise Violation("a round left the waiter in disorder")
        waiter.parks = waiter.wakeups = waiter.bells = 0
        self.end._short, self.end._kept, self.end._rung = _SHORT, 0, 0

    async def attempt(self) -> None:
        """Try once; park if it came to nothing."""
        raise NotImplementedError

    async def _park(self) -> None:
        await self.end._waiter._park(1.0)

    def heard(self) -> None:
        """The bell rang, and the loop tells the waiter."""
        self.end._waiter._heard()


class Writer(_Program):
    """Writes all messages, then closes, or rests for ever without closing.

    Args:
        world: what it shares with the readers.
        slots: the readers' slots; process ``slot + 1`` has bell ``slot + 1``.
        style: "core" for one attempt and a park, "whole" for `enqueue`, "lease" for leases.
        may_evict: slots that it may evict at any moment, once.
        may_rest: it may also rest at the end.
        numbered: count the bells it rings, a park at a time.
    """

    def __init__(
        self, world: World, slots: int, style: str, may_evict: tuple[int, ...], may_rest: bool,
        numbered: bool,
    ) -> None:  # fmt: skip
        ends = world.code["aioshm.ends.writer"]
        layout = world.places.layout
        ring = world.code["aioshm.shm.ring_writer"].RingWriter(world.data, world.control, layout)
        end = _end(ends.WriterEnd, world.code, ring)
        super().__init__(end, 0, world.places.wake_at, style)
        self._world = world
        self.may_evict, self._may_rest = list(may_evict), may_rest
        self.end._layout, self.end._evict_dead = layout, True
        self.end._roster = roster = world.code["aioshm.ends.admitting"].Roster(range(slots), slots)
        for slot in range(slots):
            bell = Bell(slot + 1)
            if numbered:
                bell = _ReadersBell(slot, world.places.parked[slot])
                self.objects = (*self.objects, bell)
            member = roster.join(slot, slot + 1, ("link", slot), bell)
            assert ring.admit(member.slot) == 0
        self.objects = (*self.objects, roster)

    async def attempt(self) -> None:
        if self.may_evict and OUTSIDE.ask((CHOOSE, 0, 2, RELAXED)):
            self.end._evict(self.may_evict.pop())
            return
        if self.done == len(self._world.sizes):
            if not self._may_rest or OUTSIDE.ask((CHOOSE, 0, 2, RELAXED)):
                self.end._leave()
                self.outcome = CLOSED
            else:
                self.outcome = RESTS
            return
        try:
            if await self._write(self._world.message(self.done)):
                self.done += 1
            else:
                await self._park()
        except SegmentError:
            self.end._leave()
            self.outcome = BROKEN

    async def _write(self, message: bytes) -> bool:
        if self.style == "whole":
            await self.end.enqueue(message)
            return True
        if self.style == "core":
            return bool(self.end._try_write([message]))
        where = self.end._try_claim(len(message))
        if where is None:
            return False
        self._world.data.raw[where] = message
        self.end._commit(len(message))
        return True

    def gone(self, process: int) -> None:
        """A reader's link ended without a goodbye."""
        self.end.departed(("link", process - 1), goodbye=False)


class Reader(_Program):
    """Reads until the queue ends, and looks at every message.

    Args:
        world: what it shares with the others.
        slot: its slot.
        style: as the writer's.
        expected: outcomes that may be, besides the end of the writer.
        numbered: count its parks.
    """

    def __init__(
        self, world: World, slot: int, style: str, expected: tuple[str, ...], numbered: bool
    ) -> None:
        kind = world.code["aioshm.ends.reader"].ReaderEnd
        ring = world.code["aioshm.shm.ring_reader"].RingReader(
            world.data, world.control, world.places.layout, slot, 0
        )
        end = _end(kind, world.code, ring)
        super().__init__(end, slot + 1, world.places.parked[slot], style)
        if numbered:
            ring._parked = Numbered(ring._parked)
            self.objects = (*self.objects, ring._parked)
        self._world, self._expected = world, expected
        end._rank, end._writer_gone, end._failure = slot, False, None
        end._writer_bell = _WritersBell(self, world.places.wake_at)
        self.began_at = 0

    async def attempt(self) -> None:
        self.began_at = self.end._ring.position
        evicted = EVICTED in self._expected and OUTSIDE.ask(
            (LOAD, self._world.places.evicted[self.bell - 1], None, RELAXED)
        )
        before = self.done
        try:
            await self._attempt()
            if evicted and self.done > before:
                raise Violation("the reader gets a message although it was evicted before")
        finally:
            self.began_at = 0

    async def _attempt(self) -> None:
        try:
            message = await self._read()
        except QueueShutDown:
            self._ends(CLOSED)
        except WriterDied:
            self._ends(DIED)
        except Evicted:
            self._ends(EVICTED)
        except SegmentError as error:
            if BROKEN not in self._expected:
                raise Violation(f"SegmentError: {error}") from None
            self._ends(BROKEN)
        else:
            if message is None:
                await self._park()
            elif message != self._world.message(self.done):
                raise Violation(
                    f"message {self.done} has the bytes {message.hex(' ', 16)} where "
                    f"{self._world.message(self.done).hex(' ', 16)} were written"
                )
            else:
                self.done += 1

    async def _read(self) -> bytes | None:
        if self.style == "whole":
            message: bytes = await self.end.dequeue()
            return message
        if self.style == "core":
            record = self.end._try_read()
            return None if record is None else record[1][0]
        found = self.end._try_borrow()
        if found is None:
            return None
        message = self._world.data.raw[found[1][0]]
        self.end._consume()
        return message

    def _ends(self, outcome: str) -> None:
        if outcome not in (CLOSED, DIED, *self._expected):
            raise Violation(f"the reader ends with {outcome!r}")
        self.end._leave()
        self.outcome = f"{outcome} after {self.done}"

    def gone(self, process: int) -> None:
        """The writer's link ended."""
        self.end.writer_gone()


class Scribbler:
    """A process that holds the control segment and stores a cursor that is not its own.

    Args:
        world: the memory.
        slot: the victim's slot.
        positions: what it may store.
    """

    def __init__(self, world: World, slot: int, positions: tuple[int, ...]) -> None:
        self._world, self._slot, self._positions = world, slot, positions
        self.bell = -1
        self.outcome = ""
        self.objects: tuple[Any, ...] = ()

    async def round(self) -> None:
        """Scribble once."""
        which = OUTSIDE.ask((CHOOSE, 0, len(self._positions), RELAXED))
        place = self._world.places.read[self._slot]
        OUTSIDE.ask((STORE, place, self._positions[which], RELAXED))
        self.outcome = "scribbled"

    def heard(self) -> None:
        """It has no bell."""

    def gone(self, process: int) -> None:
        """It has no link."""
