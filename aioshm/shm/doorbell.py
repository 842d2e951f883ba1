"""A doorbell: an eventfd that one process rings and another one's loop hears.

A ring is never lost and never piles up: it stays in the descriptor's counter until
the owner listens, and a hundred rings are heard as one. Whether to ring at all is
decided by flags in shared memory (see ring.py); a bell that nobody asked for costs
one system call at each end and nothing else.
"""

from __future__ import annotations

import os


class Doorbell:
    """One eventfd.

    Args:
        fd: a descriptor to adopt, received from another process; None makes a new one.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor, readable while a ring is unheard; -1 once closed."""
        return self._fd

    def ring(self) -> None:
        """Make the descriptor readable; a bell that is closed stays silent."""
        if self._fd >= 0:
            try:
                os.eventfd_write(self._fd, 1)
            except BlockingIOError:
                pass  # the counter is at its end, so the bell is rung already

    def clear(self) -> bool:
        """Hear all rings so far; tell whether there was one."""
        try:
            return self._fd >= 0 and os.eventfd_read(self._fd) > 0
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Give the descriptor back; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
