"""The real code with one thing wrong, in every way that matters: each must be caught.

A mutant replaces text within one function of the real source, found exactly once, so it
stays in step with the code: where a line went away or changed, making the mutant fails.
Each has to violate a property in just the modes named. A mutant that nobody can kill
means that a line is not needed, and should go, or that the checker is blind.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from tests.model.code import Code, source_of
from tests.model.scenario import Scenario

WRITER, READER = "aioshm.shm.ring_writer", "aioshm.shm.ring_reader"
ENDS_ADMITTING = "aioshm.ends.admitting"
ENDS_WRITER, ENDS_READER = "aioshm.ends.writer", "aioshm.ends.reader"
WAITING = "aioshm.waiting"

PLAIN = Scenario("plain")
SHORT = Scenario("short", sizes=(32, 32))
BYTES = Scenario("bytes", watched=False)
EVICT = Scenario("evict", evicts=(0,), watched=False)
SCRIBBLE = Scenario("scribble", scribbles=(64, 128), watched=False)
LEASE = Scenario("lease", style="lease")
DEATH = Scenario("death", deaths=1)
NUMBERED = Scenario("numbered", numbered=True)
TWO = Scenario("two readers", readers=2)


@dataclass(frozen=True)
class Edit:
    """Text replaced in one function.

    Args:
        module: where.
        function: its name, with the class: "RingWriter.arm".
        old: what is found there exactly once.
        new: what stands there instead.
    """

    module: str
    function: str
    old: str
    new: str

    def apply(self, source: str) -> str:
        """Make the edit.

        Raises:
            AssertionError: the text is not there, or there twice.
        """
        wanted = self.function.split(".")
        body: Sequence[ast.stmt] = ast.parse(source).body
        for name in wanted:
            (node,) = (
                node
                for node in body
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and node.name == name
            )
            body = node.body
        lines = source.splitlines(keepends=True)
        start, stop = node.lineno - 1, node.end_lineno
        text = "".join(lines[start:stop])
        found = text.count(self.old)
        assert found == 1, f"{self.function}: {self.old!r} is there {found} times, not once"
        text = text.replace(self.old, self.new)
        return "".join([*lines[:start], text, *lines[stop:]])


@dataclass(frozen=True)
class Mutant:
    """A change, and where it has to be noticed.

    Args:
        tag: the pair of accesses it breaks (ring.py).
        what: what is wrong with it.
        edits: the change.
        scenario: in which situation it shows.
        dies: the modes in which it must violate a property.
    """

    tag: str
    what: str
    edits: tuple[Edit, ...]
    scenario: Scenario = PLAIN
    dies: str = ""

    def code(self) -> Code:
        """The code with the change."""
        changed: dict[str, str] = {}
        for edit in self.edits:
            source = changed.get(edit.module) or source_of(edit.module)
            changed[edit.module] = edit.apply(source)
        return Code(changed)


def _mutant(
    tag: str, what: str, module: str, function: str, old: str, new: str,
    scenario: Scenario = PLAIN, dies: str = "", more: tuple[Edit, ...] = (),
) -> Mutant:  # fmt: skip
    return Mutant(tag, what, (Edit(module, function, old, new), *more), scenario, dies)


ALL = "sc tso weak"
_FILL = """\
            HEADER.pack_into(raw, at, position, size >> 6, ONE_FRAME, self.number, length)
            at += HEADER_BYTES
            raw[at : at + length] = head
"""
_COPY = "            frames: list[Buffer] = [raw[at : at + length]]\n"
_CLAIM = "            store(self._words, CLAIM, limit)  # EVICT\n"
_CLAIM_FENCE = "            fence()  # EVICT, FREE\n"
_LOOK_AT_CLAIM = "            or load(self._words, CLAIM) > before + self._capacity  # EVICT\n"
_CLEAR = "                store(self._parked, slot, 0)\n"
_RINGS = "                member.bell.ring()\n"
_CROSSES = "self._told < load(self._words, WAKE_AT) <= end"
_FREES = "store_release(self._cursors, self._read, end)  # FREE, PARK-WRITER\n"
_SECOND_LOOK = """            record = self._ring.try_read()
            if record is None:
                self._raise_end()
"""

MUTANTS = [
    _mutant("PUBLISH", "store of written is relaxed", WRITER, "RingWriter._publish",
            "store_release(self._words, WRITTEN", "store(self._words, WRITTEN", BYTES, "weak"),
    _mutant("PUBLISH", "load of written is relaxed", READER, "RingReader._look_for_written",
            "load_acquire(self._words, WRITTEN)", "load(self._words, WRITTEN)", BYTES, "weak"),
    _mutant("PUBLISH", "published before it is filled", WRITER, "RingWriter.try_write",
            _FILL + "            self._publish(position + size)\n",
            "            self._publish(position + size)\n" + _FILL, BYTES, ALL),
    _mutant("FREE", "store of read is relaxed", READER, "RingReader._free",
            "store_release(self._cursors", "store(self._cursors", PLAIN, "weak"),
    _mutant("FREE", "no fence between look at read and overwrite", WRITER,
            "RingWriter._look_for_room", _CLAIM_FENCE, "", PLAIN, "weak"),
    _mutant("FREE", "freed before it is copied", READER, "RingReader.try_read",
            _COPY, "            self._free(end)\n" + _COPY, PLAIN, ALL,
            more=(Edit(READER, "RingReader.try_read", "        self._free(end)\n        self.number",  # noqa: E501
                       "        self.number"),)),
    _mutant("FREE", "the fastest reader makes the room", WRITER, "RingWriter._look_for_room",
            "min(self", "max(self", TWO, ALL),
    _mutant("PARK-READER", "no fence after written", WRITER, "RingWriter._publish",
            "fence()  # PARK-READER", "pass", SHORT, "tso weak"),
    _mutant("PARK-READER", "no look at parked after written", WRITER, "RingWriter._publish",
            "if load_flags(self._parked) != self._nobody:", "if False:", SHORT, ALL),
    _mutant("PARK-READER", "no fence after parked", READER, "RingReader.arm",
            "fence()  # PARK-READER", "pass", SHORT, "tso weak"),
    _mutant("PARK-READER", "no look at written after parked", READER, "RingReader.arm",
            "is_written(self.position, load(self._words, WRITTEN))", "False", SHORT, ALL),
    _mutant("PARK-READER", "no look at closed after parked", READER, "RingReader.arm",
            "or self.is_closed()", "or False", SHORT, ALL),
    _mutant("PARK-READER", "no look at evicted after parked", READER, "RingReader.arm",
            "or bool(load(self._evicted, self._slot))", "or False", EVICT, ALL),
    _mutant("PARK-READER", "what arm() saw is not heeded", WAITING, "Waiter._park",
            "and self._parking.arm():", "and self._parking.arm() and False:", SHORT, ALL),
    _mutant("PARK-READER", "load of closed is relaxed", READER, "RingReader.is_closed",
            "load_acquire(self._words, CLOSED)", "load(self._words, CLOSED)", SHORT, "weak"),
    _mutant("PARK-READER", "no fence after closed", WRITER, "RingWriter.close",
            "fence()  # PARK-READER", "pass", SHORT, "tso weak"),
    _mutant("PARK-READER", "no look at parked after closed", WRITER, "RingWriter.close",
            "self._note_parked()", "pass", SHORT, ALL),
    _mutant("PARK-READER", "no second look at written before the end", ENDS_READER,
            "ReaderEnd._try_read", _SECOND_LOOK, "            self._raise_end()\n", SHORT, ALL),
    _mutant("PARK-READER", "the same for a lease", ENDS_READER, "ReaderEnd._try_borrow",
            _SECOND_LOOK.replace("record", "found").replace("try_read", "borrow"),
            "            self._raise_end()\n", LEASE.but(sizes=(32, 32)), ALL),
    _mutant("PARK-READER", "no fence after evicted", WRITER, "RingWriter.evict",
            "fence()  # EVICT, PARK-READER", "pass", EVICT, "tso weak"),
    _mutant("PARK-READER", "no look at parked after evicted", WRITER, "RingWriter.evict",
            "if load(self._parked, slot):", "if False:", EVICT, ALL),
    _mutant("PARK-READER", "the flag is cleared after the bell", WRITER, "RingWriter._note_parked",
            _CLEAR, "", PLAIN, ALL, more=(
                Edit(ENDS_ADMITTING, "AdmittingEnd._pay", _RINGS, _RINGS
                     + "                self._ring._clear(member.slot)\n"),
                Edit(WRITER, "RingWriter.close", "    def close",
                     "    def _clear(self, slot):\n        store(self._parked, slot, 0)\n\n"
                     "    def close"),
            )),
    _mutant("PARK-READER", "bells owed are not rung", ENDS_WRITER, "WriterEnd._try_write",
            "self._pay()", "pass", SHORT, ALL),
    _mutant("PARK-READER", "bells owed at close are not rung", ENDS_WRITER, "WriterEnd._leave",
            "self._pay()", "pass", SHORT, ALL),
    _mutant("PARK-READER", "bells owed at evict are not rung", ENDS_ADMITTING,
            "AdmittingEnd._evict", "self._pay()", "pass", EVICT, ALL),
    _mutant("PARK-READER", "an evicted reader does not look", READER,
            "RingReader._look_for_written", "if load(self._evicted, self._slot):", "if False:",
            EVICT, ALL),
    _mutant("PARK-WRITER", "no fence after wake_at", WRITER, "RingWriter.arm",
            "fence()  # PARK-WRITER", "pass", PLAIN, "tso weak"),
    _mutant("PARK-WRITER", "no look at read after wake_at", WRITER, "RingWriter.arm",
            "return self._look_for_room(end, size)", "return False", PLAIN, ALL),
    _mutant("PARK-WRITER", "no fence after read", READER, "RingReader._free",
            "fence()  # PARK-WRITER", "pass", PLAIN, "tso weak"),
    _mutant("PARK-WRITER", "no look at wake_at after read", READER, "RingReader._free",
            _CROSSES, "False", PLAIN, ALL),
    _mutant("PARK-WRITER", "the look at wake_at comes before read", READER, "RingReader._free",
            _FREES, "wake_at = load(self._words, WAKE_AT)\n        " + _FREES, PLAIN, ALL,
            more=(Edit(READER, "RingReader._free", _CROSSES, "self._told < wake_at <= end"),)),
    _mutant("PARK-WRITER", "the store that reaches wake_at does not ring", READER,
            "RingReader._free", _CROSSES, _CROSSES.replace("<= end", "< end"), PLAIN, ALL),
    _mutant("PARK-WRITER", "the store after the one that reaches wake_at rings", READER,
            "RingReader._free", _CROSSES, _CROSSES.replace("told <", "told <="), PLAIN, ALL),
    _mutant("PARK-WRITER", "every store beyond wake_at rings", READER, "RingReader._free",
            _CROSSES, "0 < load(self._words, WAKE_AT) <= end", PLAIN, ALL),
    _mutant("PARK-WRITER", "the bell owed is not rung", ENDS_READER, "ReaderEnd._try_read",
            "        self._pay()\n        return record", "        return record", PLAIN, ALL),
    _mutant("PARK-WRITER", "the same for a lease", ENDS_READER, "ReaderEnd._consume",
            "self._pay()", "pass", LEASE, ALL),
    _mutant("EVICT", "no fence between copy and look", READER, "RingReader._free",
            "fence_loads()  # EVICT", "pass", SCRIBBLE, "weak"),
    _mutant("EVICT", "no look at claim after the copy", READER, "RingReader._free",
            _LOOK_AT_CLAIM, "", SCRIBBLE, ALL),
    _mutant("EVICT", "read is stored before the look at claim", READER, "RingReader._free",
            "        fence_loads()  # EVICT\n",
            "        " + _FREES.replace("#", "# before") + "        fence_loads()  # EVICT\n",
            BYTES, ALL, more=(Edit(READER, "RingReader._free", "        " + _FREES, ""),)),
    _mutant("EVICT", "claim is not stored", WRITER, "RingWriter._look_for_room",
            _CLAIM, "", SCRIBBLE, ALL),
    _mutant("EVICT", "no fence between claim and overwrite", WRITER, "RingWriter._look_for_room",
            _CLAIM_FENCE, "", SCRIBBLE, "weak"),
    _mutant("EVICT", "claim is stored after its fence", WRITER, "RingWriter._look_for_room",
            _CLAIM, "", SCRIBBLE, "weak", more=(
                Edit(WRITER, "RingWriter._look_for_room", _CLAIM_FENCE, _CLAIM_FENCE + _CLAIM),
            )),
    _mutant("EVICT", "claim is stored after the overwrite", WRITER, "RingWriter._look_for_room",
            _CLAIM, "", SCRIBBLE, ALL, more=(
                Edit(WRITER, "RingWriter._publish", "        self.position = end\n",
                     "        store_release(self._words, CLAIM, self._limit)\n"
                     "        self.position = end\n"),
            )),
    _mutant("EVICT", "neither evicted nor claim is looked at", READER, "RingReader._free",
            "            self._lost()\n", "            pass\n", EVICT, ALL),
    _mutant("EVICT", "evicted is stored after its fence", WRITER, "RingWriter.evict",
            "        store(self._evicted, slot, 1)  # EVICT, PARK-READER\n", "", EVICT, "tso weak",
            more=(Edit(WRITER, "RingWriter.evict", "        fence()  # EVICT, PARK-READER\n",
                       "        fence()  # EVICT, PARK-READER\n"
                       "        store(self._evicted, slot, 1)\n"),)),
    _mutant("EVICT", "evicted is not stored", WRITER, "RingWriter.evict",
            "store(self._evicted, slot, 1)", "pass", EVICT, ALL),
    _mutant("EVICT", "torn records are not traced to their cause", READER, "RingReader._no_record",
            "self.check()", "pass", EVICT.but(block=16), ALL),
    _mutant("EVICT", "no fence before that look", READER, "RingReader.check",
            "fence_loads()", "pass", EVICT.but(block=16), "weak"),
    _mutant("EVICT", "no fence before the reason is looked up", READER, "RingReader._lost",
            "fence_loads()", "pass", EVICT, "weak"),
    _mutant("EVICT", "no look at evicted after the copy", READER, "RingReader._free",
            "load(self._evicted, self._slot)  # EVICT\n            or ", "", EVICT, ALL),
    _mutant("PARK-READER", "the flag is not cleared", WRITER, "RingWriter._note_parked",
            _CLEAR, "", NUMBERED, ALL),
    _mutant("PARK-READER", "the writer's end wakes nobody", ENDS_READER, "ReaderEnd.writer_gone",
            "self._changed()", "pass", DEATH, ALL),
    _mutant("PARK-WRITER", "a reader's end wakes nobody", ENDS_ADMITTING, "AdmittingEnd.departed",
            "        self._gather()\n", "", DEATH, ALL),
    _mutant("PARK-READER", "no disarm", WAITING, "Waiter._park",
            "self._parking.disarm()", "pass", SHORT, ALL),
]  # fmt: skip
