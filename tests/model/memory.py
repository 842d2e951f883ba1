"""Simulated memory: what a load may return, in three modes.

*sc*, sequential consistency [1]. There is one memory. A store is there at once, a load
returns the last store; fences do nothing. Mutants of pure logic die here.

*tso*, x86 [2]. Each process has a store buffer.

* A store goes to the end of its process's buffer; the oldest one of a buffer may go to
  memory at any moment (the model's internal step, a store is "performed").
* A load returns the newest store to its place in its own process's buffer ("forwarding"),
  else what is in memory.
* A full fence waits until the buffer of its process is empty. A fence for loads does
  nothing: no load passes a load here.
* Acquire and release are plain loads and stores, as ordering.py has it on x86.

*weak*, for ARM64 and all that is weaker. Views over message histories [3]: the promise-free
part of the "promising" semantics, whose axiomatic twin is RC11 [4].

* Memory is, per place, the sequence of all stores to it ("messages") in coherence order.
  A message carries a *view*: for each place, the oldest message that may still be read
  by whoever acquires this one.
* A process has three views, rel <= cur <= acq. It may read any message of a place not
  older than ``cur`` says; so loads pass loads, and loads pass earlier stores.
* A relaxed load adds the message it reads to ``cur``, and the message's view to ``acq``
  only; an acquire load adds the view to ``cur``.
* A store may come anywhere in coherence order after what ``cur`` says (not only at the
  end: it may have been performed before another process's, which then wiped it out). A
  release store's message carries ``cur``, a relaxed one's carries ``rel``; so stores pass
  stores.
* A fence for loads sets ``cur`` to ``acq``. A full fence does, joins ``cur`` with the one
  global view that all full fences share, both ways, and sets ``rel`` to ``cur``.

The weak mode is weaker than ARM64, which is multi-copy atomic [5]: a relaxed message may
be seen by one process and not by another (IRIW), so what is shown holds on POWER as
well. It is stronger in one point: no load returns a store that is executed later
(load buffering). For words nothing is lost by that: CPython branches on each value it
loads from one (``PyLong_FromUnsignedLong`` does), and on ARM64 no store passes a branch
that waits for a load [5]. The bytes of a record are copied without a branch; for these
the checker asks more than the right bytes. Each copy must *happen before* the store of
the cursor that the writer acquires before it overwrites them, or it is a race
(ledger.py), whatever the bytes were.

In all modes a bell (eventfd) is a counter in the kernel behind a lock: ringing releases,
hearing acquires, and neither is a full fence [6]. When a process dies, its stores are
performed, and who hears of its end has acquired them.

[1] Lamport, "How to make a multiprocessor computer that correctly executes multiprocess
    programs", IEEE ToC 1979.
[2] Owens, Sarkar, Sewell, "A better x86 memory model: x86-TSO", TPHOLs 2009.
[3] Kang, Hur, Lahav, Vafeiadis, Dreyer, "A promising semantics for relaxed-memory
    concurrency", POPL 2017; rules READ, WRITE, fences of fig. 3, without promises.
[4] Lahav, Vafeiadis, Kang, Hur, Dreyer, "Repairing sequential consistency in C/C++11",
    PLDI 2017.
[5] Pulte, Flur, Deacon, French, Sarkar, Sewell, "Simplifying ARM concurrency:
    multicopy-atomic axiomatic and operational models for ARMv8", POPL 2018.
[6] fs/eventfd.c in Linux: both take ``ctx->wqh.lock``, and a lock is acquire and release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.model.ops import Op

Mem = tuple[Any, ...]
"""A state of the memory; hashable, and opaque to all but the mode it belongs to."""


@dataclass(frozen=True)
class Plan:
    """What memory there is and who can come near it.

    Args:
        values: what is in each place at the beginning.
        processes: how many there are.
        bells: the process that hears each bell.
        writers: for each place, who may store to it.
        users: for each place, who may load or store it.
        loaders: for each place, whom the coherence order of its messages concerns: who
            may load it, and who shares the storing of it. A view on its way to others
            forgets the places that concern none of them, which can only make the weak
            mode weaker; with everyone, nothing is forgotten.
    """

    values: tuple[Any, ...]
    processes: int
    bells: tuple[int, ...] = ()
    writers: tuple[frozenset[int], ...] = ()
    users: tuple[frozenset[int], ...] = ()
    loaders: tuple[frozenset[int], ...] = ()


class Memory(Protocol):
    """A mode."""

    name: str

    def initial(self) -> Mem:
        """The state before anything happened."""

    def step(self, mem: Mem, p: int, op: Op) -> Sequence[tuple[Any, Mem]]:
        """All results that p's access can have now; none if it has to wait."""

    def alone(self, mem: Mem, p: int, op: Op, live: int) -> bool:
        """Tell whether p's access commutes with all that others (a bit set) can do.

        Then it is enough to explore what follows when it comes first.
        """

    def drains(self, mem: Mem) -> Sequence[tuple[int, tuple[int, Any], Mem]]:
        """The steps of the memory itself: whose store is performed, and which one.

        A ring is performed as a store of 1 to place -1 - bell.
        """

    def heard(self, mem: Mem, p: int, bell: int) -> Mem | None:
        """The bell's owner hears it; None if it is silent."""

    def met_end(self, mem: Mem, p: int, gone: int) -> Mem | None:
        """p hears of another's end; None while stores of that one are under way."""

    def retired(self, mem: Mem, p: int, *, died: bool) -> Mem:
        """p makes no access any more."""

    def last(self, mem: Mem, place: int) -> Any:
        """The last store to a place."""
