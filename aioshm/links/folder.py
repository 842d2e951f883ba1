"""Where the sockets live: one private folder a user, with one random name a queue.

``$XDG_RUNTIME_DIR/aioshm`` where that directory is the user's own, else
``aioshm-<uid>`` in the temporary directory. The folder must be the user's, mode 0700;
anybody else's is refused, not repaired.

A socket file outlives its writer when that is killed. So each new writer *sweeps*: a
name where nobody listens any more is removed. A socket that is bound but does not
listen yet looks dead, so it is bound as ``.new-…`` and renamed once it listens; only
final names are swept.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 107  # bytes of sun_path in <sys/un.h>, less the closing zero
_NEW = ".new-"


def folder() -> Path:
    """Find or make this user's folder.

    Raises:
        PermissionError: somebody else owns it, or others may enter it.
    """
    path = _runtime() or Path(tempfile.gettempdir()) / f"aioshm-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(
            f"{path} is not a directory of user {os.geteuid()} (owner {status.st_uid}): aioshm's "
            "sockets must be out of others' reach; remove it or set XDG_RUNTIME_DIR"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(
            f"{path} has mode {stat.S_IMODE(status.st_mode):04o} where 0700 was expected: aioshm's "
            f"sockets must be out of others' reach; chmod 700 {path}"
        )
    return path


def _runtime() -> Path | None:
    """The user's runtime directory, where it is one to be used."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if not base or not os.path.isabs(base):
        return None
    try:
        status = os.stat(base)
    except OSError:
        return None
    usable = (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and os.access(base, os.W_OK | os.X_OK)
    )
    return Path(base) / "aioshm" if usable else None


def listen(name: str, backlog: int) -> tuple[socket.socket, str]:
    """Listen under a fresh name beginning with `name`; returns the socket and its path."""
    where = folder()
    sweep(where)
    final = where / f"{name}-{secrets.token_hex(8)}"
    fresh = where / f"{_NEW}{final.name}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.setblocking(False)
        with address(str(fresh)) as short:
            listener.bind(short)
        try:
            listener.listen(backlog)
            fresh.rename(final)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except BaseException:
        listener.close()
        raise
    return listener, str(final)


@contextlib.contextmanager
def address(path: str) -> Iterator[str]:
    """Give a name for `path` that fits a socket address, however long the path is."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    parent, base = os.path.split(path)
    fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{base}"
    finally:
        os.close(fd)


def sweep(where: Path) -> None:
    """Remove the sockets of dead writers."""
    for path in where.iterdir():
        if path.name.startswith(_NEW) or not path.is_socket():
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.setblocking(False)
            try:
                with address(str(path)) as short:
                    probe.connect(short)
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                pass  # it lives (its backlog is full), is gone, or is not ours to judge
