"""Anonymous shared memory: a sealed memfd and its mapping.

No name exists anywhere, so nothing is left behind by a process that is killed, and
the size of /dev/shm does not matter: the pages live as long as a descriptor or a
mapping does. Three properties are asked of the kernel, in this order:

1. *All memory is there at once* (``posix_fallocate``): a machine that is out of
   memory says so at ``create``, not by SIGBUS in the middle of a message.
2. *Nobody can resize it* (F_SEAL_SHRINK, F_SEAL_GROW, and F_SEAL_SEAL so that no
   peer adds seals of its own): a mapping stays valid whatever the peer does.
3. *Only the writer can write its own segment*: once mapped, F_SEAL_FUTURE_WRITE
   refuses every further writable mapping, on any path to the file. Kernels before
   5.1 do not know the seal; they pass on a descriptor reopened read-only, whose
   writable mapping is refused as well.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
from collections.abc import Callable

from aioshm.errors import SegmentError
from aioshm.shm.layout import MAGIC, MAGIC_WORD, VERSION, VERSION_WORD

_SEAL_FUTURE_WRITE = 0x10  # <linux/fcntl.h>; named by Python only from 3.14 on
_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Segment:
    """One mapping of one memfd: ``raw`` bytes, and ``words`` of its first bytes.

    Args:
        fd: the memfd; the segment owns it from now on.
        nbytes: its size.
        writable: map it for writing too.
        words: bytes at its start that are reached as words.
    """

    def __init__(self, fd: int, nbytes: int, *, writable: bool, words: int) -> None:
        self._fd = fd
        access = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        self.raw = mmap.mmap(fd, nbytes, flags=mmap.MAP_SHARED, prot=access)
        self._bytes = memoryview(self.raw)
        self.words = self._bytes[:words].cast("Q")
        self._views: list[memoryview] = [self.words]
        self._users: list[Callable[[], None]] = []

    @classmethod
    def create(cls, label: str, nbytes: int, *, words: int) -> Segment:
        """Make a new segment of zeroes and write its magic and version.

        Raises:
            OSError: no memory (ENOSPC, ENOMEM) or no descriptor (EMFILE) is left.
        """
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if nbytes > there:
            # The kernel would fill all memory, and kill some process for it, before it said so.
            raise OSError(
                errno.ENOMEM,
                f"{label} would take {nbytes} bytes and this machine has {there}; make "
                "max_chunk_bytes or max_chunks smaller",
            )
        fd = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.posix_fallocate(fd, 0, nbytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SIZE_SEALS)
            segment = cls(fd, nbytes, writable=True, words=words)
        except BaseException:
            os.close(fd)
            raise
        segment.words[VERSION_WORD] = VERSION
        segment.words[MAGIC_WORD] = MAGIC
        return segment

    @classmethod
    def attach(cls, fd: int, nbytes: int, *, writable: bool, words: int) -> Segment:
        """Map a segment that another process made, after looking at what it is.

        The descriptor belongs to the segment, whatever happens.

        Raises:
            SegmentError: wrong size, seals, magic or version.
            OSError: the mapping failed.
        """
        try:
            size = os.fstat(fd).st_size
            if size != nbytes:
                raise SegmentError(f"the segment has {size} bytes where {nbytes} were announced")
            try:
                seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            except OSError as error:
                raise SegmentError("the descriptor is no memfd") from error
            if seals & _SIZE_SEALS != _SIZE_SEALS:
                raise SegmentError("the segment is not sealed against shrinking and growing")
            segment = cls(fd, nbytes, writable=writable, words=words)
        except BaseException:
            os.close(fd)
            raise
        magic, version = segment.words[MAGIC_WORD], segment.words[VERSION_WORD]
        if (magic, version) != (MAGIC, VERSION):
            segment.close()
            raise SegmentError(
                f"the segment has magic {magic:#x}, version {version} where {MAGIC:#x}, "
                f"version {VERSION} was expected; both ends must run the same aioshm"
            )
        return segment

    def seal(self, *, future_writes: bool) -> None:
        """Refuse further seals and, if asked to, all writable mappings but this one."""
        if future_writes:
            try:
                fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEAL_FUTURE_WRITE)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                readonly = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
                fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
                os.close(self._fd)
                self._fd = readonly
                return
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)

    def fileno(self) -> int:
        """The descriptor to pass on."""
        return self._fd

    def flags(self, where: slice) -> memoryview:
        """A row of byte flags as a view, which closing the segment takes back."""
        view = self._bytes[where]
        self._views.append(view)
        return view

    def on_close(self, let_go: Callable[[], None]) -> None:
        """Have closing the segment call this, for who holds the mapping without a view."""
        self._users.append(let_go)

    def holders(self) -> int:
        """Count who refers to the mapping: each managed buffer over it, and a constant."""
        return sys.getrefcount(self.raw)

    def close_fd(self) -> None:
        """Give the descriptor back; the mapping goes on without it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Give descriptor and mapping back; safe to call twice.

        Where a lease's views are still alive the mapping stays until they are gone,
        so that they never point into nothing.
        """
        self.close_fd()
        for let_go in self._users:
            let_go()
        self._users.clear()
        for view in (*self._views, self._bytes):
            view.release()
        self._views.clear()
        try:
            self.raw.close()
        except BufferError:
            pass  # kept by the views alone now, and unmapped with the last of them
