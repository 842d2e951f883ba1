"""The only way to a word that another process reads or writes.

Theory of operation
-------------------
Two processes see each other's stores late and, on some CPUs, in another order.
Five promises are enough for the ring:

``load_acquire(words, i)``
    what is read *after* it is at least as new as what it returned;
``store_release(words, i, value)``
    whoever sees the value also sees all that was read or written *before* it;
``fence()``
    nothing on one side of it passes to the other, in particular no later load
    passes an earlier store, which acquire and release do not give, not even on
    x86 (Intel SDM vol. 3, 9.2.3.4 "Loads may be reordered with earlier stores to
    different locations");
``fence_loads()``
    no load before it passes to after it, nor the other way round: the cheaper half of
    a fence, for a reader that looks afterwards whether what it copied still stands;
``load(words, i)``, ``store(words, i, value)``
    one whole, untorn access and nothing else: for words whose order a fence at
    the call site gives.

A word is an element of a ``memoryview`` cast to "Q" (eight bytes) or "B" (one
byte): CPython reads and writes such an element with one machine access. (Through
``operator`` it takes 12 ns less than in a function of ours, seven times a message.) Not so
``struct.pack_into``, which zeroes its target first; it must not touch these words.

=========== ================= ================= =========== =============================
machine     load_acquire      store_release     fence_loads fence
=========== ================= ================= =========== =============================
x86-64      plain load (TSO)  plain store (TSO) nothing     a locked instruction, the one
                                                (TSO)       in releasing a threading.Lock
others      load, then fence  fence, then store fence       libatomic's
                                                            atomic_thread_fence (ctypes)
=========== ================= ================= =========== =============================

Where the C ring runs, `fence` is its C11 fence, on any machine, and nothing else is
needed. Otherwise, elsewhere than on x86-64, a lock is no substitute: acquire then release
of a lock is not a full barrier on ARM64, where accesses may move into the section from
both sides and pass each other there. So importing raises where libatomic is missing.

Every function is looked up as a global of the module that calls it, so that a
model checker can put its own in place of these.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import operator
import platform
import threading
from collections.abc import Callable
from typing import cast

from aioshm.shm.choice import extension

Words = memoryview
"""A view of shared memory, cast to "Q" or "B"; the index counts elements."""

_X86_64 = platform.machine() in ("x86_64", "AMD64")

# acquire(False) and then release(), not `with`: half the price, and it heals
# itself. Where a KeyboardInterrupt lands between the two, or the lock was held
# in the parent at the moment of a fork, the next acquire fails without waiting
# and the release is the locked instruction all the same.
_lock = threading.Lock()
_acquire = _lock.acquire
_release = _lock.release


def _lock_fence() -> None:
    _acquire(False)
    try:
        _release()
    except RuntimeError:
        # Another thread's fence released it in between. To get there the
        # interpreter lock went away from this thread and came back, and taking
        # it is a locked instruction of this thread.
        pass


def _libatomic_fence() -> Callable[[], None]:
    name = ctypes.util.find_library("atomic") or "libatomic.so.1"
    try:
        call = ctypes.PyDLL(name).atomic_thread_fence
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"aioshm needs a full memory fence and knows none for {platform.machine()} "
            f"without libatomic ({error}): install it (Debian: apt-get install libatomic1), "
            "or a C compiler and then aioshm again"
        ) from error
    call.argtypes = [ctypes.c_int]
    call.restype = None
    seq_cst = 5  # memory_order_seq_cst in C11's <stdatomic.h>, as gcc and clang number it

    def fence() -> None:
        call(seq_cst)

    return fence


load: Callable[[Words, int], int] = operator.getitem
"""Read one whole word, without any order."""

store = cast(Callable[[Words, int, int], None], operator.setitem)
"""Write one whole word, without any order."""


def load_flags(flags: Words) -> bytes:
    """Read a row of byte flags, each whole, without any order."""
    return flags.tobytes()


fence: Callable[[], None]
"""Let nothing on one side of the call pass to the other: a full memory barrier."""

if extension is not None:
    fence, _implementation = extension.fence, "c11"
elif _X86_64:
    fence, _implementation = _lock_fence, "lock"
else:
    fence, _implementation = _libatomic_fence(), "libatomic"

if _X86_64:

    def fence_loads() -> None:
        """Let no load pass from one side of the call to the other."""

    load_acquire: Callable[[Words, int], int] = operator.getitem
    """Read one word; all that is read later is at least as new."""

    store_release = cast(Callable[[Words, int, int], None], operator.setitem)
    """Write one word; who sees it sees all that was read or written before."""

else:

    def fence_loads() -> None:
        """Let no load pass from one side of the call to the other."""
        fence()

    def load_acquire(words: Words, index: int) -> int:
        """Read one word; all that is read later is at least as new."""
        value = words[index]
        fence()
        return value

    def store_release(words: Words, index: int, value: int) -> None:
        """Write one word; who sees it sees all that was read or written before."""
        fence()
        words[index] = value


def fence_implementation() -> str:
    """Say what ``fence()`` is made of in this process: ``"c11"``, ``"lock"`` or ``"libatomic"``."""
    return _implementation
