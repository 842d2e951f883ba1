"""What the demo sends, and how a reader proves that it got just that.

A message is ``(number, checksum, payload)``: numbers count from 0 without a hole, the
checksum is the payload's CRC-32. The payloads are the lines of the running Python's own
standard library: real text, and the same on both sides of a comparison.
"""

from __future__ import annotations

import os
import struct
import sysconfig
from collections.abc import Iterator
from itertools import cycle
from typing import Any
from zlib import crc32

Message = tuple[int, int, bytes]

# Far above any line that somebody wrote, far below the smallest ring of the demo.
_LONGEST = 32 * 1024
_KEPT = 3
_STAMP = struct.Struct("<q")


def make(number: int, payload: bytes) -> Message:
    """Make the message of this number."""
    return number, crc32(payload), payload


def stamped(time_ns: int, line: bytes) -> bytes:
    """Make a payload that says when it was sent."""
    return _STAMP.pack(time_ns) + line


def time_of(payload: bytes) -> int:
    """Read when a stamped payload was sent."""
    time_ns: int = _STAMP.unpack_from(payload)[0]
    return time_ns


def library_lines(most: int | None = None, folder: str | None = None) -> list[bytes]:
    """Read the lines of the Python sources of the standard library.

    Args:
        most: how many are enough; None reads all of them.
        folder: where to look for sources; None is the running Python's standard library.

    Raises:
        FileNotFoundError: there are none, as in a Python that ships without them.
    """
    folder = folder or sysconfig.get_path("stdlib")
    lines: list[bytes] = []
    for path in _sources(folder):
        try:
            with open(path, "rb") as file:
                found = file.read().splitlines(keepends=True)
        except OSError:
            continue  # the next one will do
        lines += [line for line in found if len(line) <= _LONGEST]
        if most is not None and len(lines) >= most:
            break
    if not lines:
        raise FileNotFoundError(f"no Python sources in {folder}: the demo sends their lines")
    return lines[:most]


def _sources(folder: str) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        yield from (os.path.join(where, name) for name in sorted(files) if name.endswith(".py"))


def messages(lines: list[bytes]) -> Iterator[Message]:
    """Make messages of these lines, over and over, without end."""
    for number, line in enumerate(cycle(lines)):
        yield number, crc32(line), line


class Verifier:
    """One reader's proof: every number once and in order, every checksum right.

    Args:
        first: the number that must come first; None takes whichever does.

    Attributes:
        first: the number that came first, None before any did.
        messages: messages seen.
        nbytes: bytes of their payloads.
        wrong: messages that were not what they had to be.
        problems: the first few of them, in words.
    """

    def __init__(self, first: int | None = 0) -> None:
        self.first: int | None = None
        self.messages = self.nbytes = self.wrong = 0
        self.problems: list[str] = []
        self._next = first

    def see(self, message: Message) -> None:
        """Check one message."""
        number, checksum, payload = message
        if number != self._next:
            if self._next is not None:
                self._note(f"message {number} where {self._next} was expected")
            self._next = number
        if self.first is None:
            self.first = number
        if crc32(payload) != checksum:
            self._note(f"message {number}: checksum {crc32(payload)} where {checksum} was sent")
        self._next += 1
        self.messages += 1
        self.nbytes += len(payload)

    def _note(self, problem: str) -> None:
        self.wrong += 1
        if len(self.problems) < _KEPT:
            self.problems.append(problem)

    def report(self) -> dict[str, Any]:
        """Give the counts, as JSON can carry them."""
        return {
            "first": self.first,
            "messages": self.messages,
            "nbytes": self.nbytes,
            "wrong": self.wrong,
            "problems": self.problems,
        }
