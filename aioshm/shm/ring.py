"""The ring: one writer, many readers, one copy of every message in shared memory.

Theory of operation
-------------------
The writer owns one position, ``written``; each reader owns one, ``read[r]``. All
between the slowest ``read`` and ``written`` is unread; the rest of the ring is room::

            read[1]     read[0]                written            limit = min(read) + capacity
    ──────────┼───────────┼───────────────────────┼───────────────────────┼──────────
     read by all │ read by some │   unread          │        room

Each side copies the other's positions and looks again only when its copy says "full"
or "empty". Full and empty are return values (False, None), never exceptions. Nothing
here waits: a caller that wants to wait arms, and `arm` looks again, because a bell
that was due before the flag stood is never rung.

Five pairs of accesses order the two sides; each call site below carries its tag:

============ ============================================ ==============================
tag          one side                                     the other side
============ ============================================ ==============================
PUBLISH      record bytes, store_release(written)         load_acquire(written), record
                                                          bytes
FREE         last touch of the record,                    load(read[r]), claim's fence,
             store_release(read[r])                       overwrite
PARK-READER  parked[r] = 1, fence, look at written,       store written (or closed,
             closed, evicted                              evicted), fence, look at parked
PARK-WRITER  wake_at = p, fence, look at all read         store read[r], fence, look at
                                                          wake_at
EVICT        evicted[r] = 1, claim = limit, fence,        copy all, fence_loads, look at
             overwrite                                    evicted and claim; only then FREE
============ ============================================ ==============================

``claim`` is how far the writer may be overwriting: the limit it found at its last
look at the readers, not the end of each record, so that it costs one store and one
fence per look instead of per message. A reader whose copy began at ``position``
has good bytes if ``claim <= position + capacity`` still holds after the copy. With
honest readers only an eviction breaks that; it also catches a writer that was led on
by a cursor some other process scribbled over.

No line of these is there for safety's sake: tests/model takes away or weakens one at a
time and shows the schedule on which it is missed.

The two classes exist twice: in Python (ring_writer.py, ring_reader.py), which is the
reference and what tests/model checks, and in C11 (_ring.c and what it names), which runs
wherever it was built. The bytes are the same, so each can be at either end.

Bells are not rung here (that is I/O) but noted in ``owed``, before the flag that asked
for them is cleared, and struck off by the caller after ringing: a KeyboardInterrupt
in between leaves them owed to the next call.
"""

from typing import TYPE_CHECKING

from aioshm.shm.choice import extension, ring_implementation
from aioshm.shm.ring_reader import Record

if TYPE_CHECKING or extension is None:
    from aioshm.shm.ring_reader import RingReader
    from aioshm.shm.ring_writer import RingWriter
else:
    RingReader, RingWriter = extension.RingReader, extension.RingWriter

__all__ = ["Record", "RingReader", "RingWriter", "ring_implementation"]
