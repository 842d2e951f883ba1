"""The witness: words of shared memory that remember what a killed process had done.

A report cannot come from a process that gets SIGKILL at a random instruction. So workers
note their progress here as they go, one 64-bit store each, and the supervisor reads it
when they are gone. It belongs to the tests and shares nothing with the queue's own memory.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable

from tests.helpers import HANG

BYTES = 4096

BEGUN = 0
"""Messages whose enqueue was called."""
DONE = 1
"""Messages whose enqueue returned."""
CLOSING = 2
"""1 once the writer calls aclose."""
CLOSED = 3
"""1 once aclose returned."""
_CONSUMED = 8


def consumed(rank: int) -> int:
    """Index of the word that holds the next message's number of a rank's reader."""
    return _CONSUMED + rank


class Witness:
    """The words, mapped.

    Args:
        fd: the descriptor of a witness made elsewhere; None makes a new one.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("stress-witness", os.MFD_CLOEXEC)
            os.ftruncate(fd, BYTES)
        self.fd = fd
        self._map = mmap.mmap(fd, BYTES)
        self.words = memoryview(self._map).cast("Q")

    def clear(self) -> None:
        """Begin a case with zeroes."""
        for index in range(len(self.words)):
            self.words[index] = 0

    def until(self, condition: Callable[[memoryview], object]) -> None:
        """Wait until the words are so, finer than a loop can sleep."""
        deadline = time.monotonic() + HANG
        while not condition(self.words):
            assert time.monotonic() < deadline, (
                f"HANG: the words stay at {self.words[:16].tolist()}"
            )
            time.sleep(0.0002)

    def until_moved(self, word: int, count: int) -> None:
        """Wait until a word has grown by `count`."""
        goal = self.words[word] + count
        self.until(lambda words: words[word] >= goal)

    def close(self) -> None:
        """Give the memory back."""
        self.words.release()
        self._map.close()
        os.close(self.fd)
