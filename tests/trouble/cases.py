"""The list of troubles, and the mark that makes a test one of them."""

from __future__ import annotations

import pytest

CASES = {
    1: "wrong token",
    2: "rank the handle does not name",
    3: "rank already taken",
    4: "handle of a writer that died",
    5: "handle of a dead writer whose forked child lives",
    6: "handle from another version, truncated, garbage string",
    7: "random bytes on the socket",
    8: "a client that connects and stays silent, 200 of them",
    9: "another user's connection",
    10: "socket path beyond 107 characters",
    11: "XDG_RUNTIME_DIR unset, missing, not writable, owned by another",
    12: "/dev/shm of 1 MiB",
    13: "no file descriptors left, at create, at attach, in mid-admission",
    14: "sizes and counts of zero, negative, absurd",
    15: "message above the limit",
    16: "unpicklable object",
    17: "object whose unpickling raises, between good ones",
    18: "use after close, double close, close during a wait, from __del__ only",
    19: "use in a forked child, and the parent unharmed",
    20: "use from another loop or thread",
    21: "cancel during wait_until_ready, then again with success",
    22: "wait_until_ready timeout naming the missing ranks",
    23: "reader killed while parked, while reading, while holding a lease, during admission",
    24: "writer killed before READY, while readers park, between any two stores of a publish, "
    "while closing",
    25: "SIGSTOP and CONT of a reader, of the writer",
    26: "rank taken again while the old reader is stopped, which then wakes",
    27: "KeyboardInterrupt between clearing a byte and ringing",
    28: "lease misuse: views kept, exception, cancel, two at once, enqueue inside own lease",
    29: "a reader that never reads",
    30: "a reader process that scribbles over every byte of its control mapping",
}


def case(number: int, *ways: str) -> pytest.MarkDecorator:
    """Make a test the one of that number: it gets each way as its argument `how`."""
    words = f"{number} {CASES[number]}"
    return pytest.mark.parametrize(
        "how",
        [pytest.param(way, id=f"{words}: {way}") for way in ways] or [pytest.param("", id=words)],
    )
