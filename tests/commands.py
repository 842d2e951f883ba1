"""The ``aioshm`` command as people run it: a process, on a terminal or not."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers import HANG, ROOT

# What a shell does for the program it starts: make the terminal its own.
ON_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Command:
    """One run of ``aioshm``; what it shows is read as it comes.

    Args:
        args: its arguments.
        terminal: give it a terminal of its own.
        env: more environment.
    """

    def __init__(self, *args: str, terminal: bool = False, **env: str) -> None:
        command = ["-m", "aioshm", *args]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **env}
        environment["TMPDIR"] = environment["XDG_RUNTIME_DIR"]
        stdin: int = subprocess.DEVNULL
        self.fd, shown = os.pipe()
        if terminal:
            os.close(self.fd)
            os.close(shown)
            self.fd, stdin = pty.openpty()
            fcntl.ioctl(stdin, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
            shown = stdin
            command = ["-c", ON_TERMINAL, *command]
        self._errors = os.memfd_create("errors")
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=stdin,
            stdout=shown,
            stderr=shown if terminal else self._errors,
            env=environment,
            cwd=ROOT,
        )
        os.close(shown)
        self.shown = ""

    def _read(self, until: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"nothing more was shown in time after:\n{self.shown}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""  # a terminal that nobody has open any more
        self.shown += data.decode()
        return bool(data)

    def wait_for(self, pattern: str) -> None:
        """Read until something is shown."""
        until = time.monotonic() + HANG
        while not re.search(pattern, self.shown):
            assert self._read(until), f"{pattern!r} was never shown in:\n{self.shown}"

    def end(self, within: float = 3 * HANG) -> int:
        """Read to the end of a whole run; returns the exit status."""
        until = time.monotonic() + within
        while self._read(until):
            pass
        return self.process.wait(HANG)

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        size = os.fstat(self._errors).st_size
        return os.pread(self._errors, size, 0).decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(HANG)
        os.close(self.fd)
        os.close(self._errors)


def family(folder: Path) -> set[int]:
    """The processes that have this test's runtime directory for their temporary one."""
    mark = f"TMPDIR={folder}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has gone, or is none of ours
            if mark in environment:
                found.add(int(entry.name))
    return found


def wait_for_exit(pids: set[int]) -> None:
    """Wait until these processes, children or not, have exited."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ready, _, _ = select.select([fd], [], [], HANG)
            assert ready, f"process {pid} is still there"
        finally:
            os.close(fd)
