"""The nursery: one process that has imported everything and forks workers on demand.

A fresh interpreter takes 150 ms and more to import; a fork of one that has done so takes
a few. The nursery runs no loop and makes no queue, because neither survives a fork. It
reaps its workers by their pidfds, and if the supervisor goes away it kills them all.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import traceback
import types
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import uvloop

from tests.helpers import ROOT, current_loop
from tests.stress.wire import Wire
from tests.stress.witness import Witness
from tests.stress.worker import Worker

Role = Callable[..., Awaitable[object]]
"""What a worker does: ``await role(wire, witness, *args)``."""

_LARGEST = 1 << 17


class Nursery:
    """The supervisor's view of the nursery, and its witness."""

    def __init__(self) -> None:
        self.witness = Witness()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (theirs.fileno(), self.witness.fd)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", __name__, *map(str, fds)],
                pass_fds=fds,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
            )

    def start(self, role: Role, *args: Any) -> Worker:
        """Fork a worker, on the running loop's kind of loop."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.environ["XDG_RUNTIME_DIR"]
        job = (role.__module__, role.__qualname__, args, current_loop(), folder)
        with theirs:
            socket.send_fds(self._sock, [pickle.dumps(job)], [theirs.fileno()])
        answer, (pidfd,), _, _ = socket.recv_fds(self._sock, 64, 1)
        os.set_inheritable(pidfd, False)
        return Worker(role.__qualname__, int(answer), pidfd, Wire(ours), self.witness)

    def children(self) -> int:
        """Count the workers that are not reaped yet."""
        path = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        with open(path) as listing:
            return len(listing.read().split())

    def close(self) -> None:
        """End the nursery."""
        self._sock.close()
        self._process.wait(30)
        self.witness.close()


def _tell_tasks(role: Role) -> None:
    """Print where every task awaits, for a supervisor that saw no progress."""
    lines = [f"pid {os.getpid()}, {role.__qualname__}:"]
    for task in asyncio.all_tasks():
        lines.append(f"  {task.get_name()}")
        awaited: Any = task.get_coro()
        while isinstance(awaited, types.CoroutineType):
            if awaited.cr_frame is not None:
                code = awaited.cr_frame.f_code
                lines.append(f"    {code.co_filename}:{awaited.cr_frame.f_lineno} {code.co_name}")
            awaited = awaited.cr_await
    print("\n".join(lines), file=sys.stderr, flush=True)


async def _run(wire: Wire, witness: Witness, role: Role, args: tuple[Any, ...]) -> None:
    wire.listen()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _tell_tasks, role)
    try:
        await role(wire, witness, *args)
    except BaseException as error:
        error.add_note("".join(traceback.format_exception(error)))
        wire.send(error)
        raise
    finally:
        wire.close()


def _work(wire: Wire, witness: Witness, job: tuple[Any, ...]) -> NoReturn:
    """Be a worker; never returns into the nursery's own stack."""
    status = 1
    try:
        module, name, args, loop, folder = job
        os.environ["XDG_RUNTIME_DIR"] = folder
        role = getattr(importlib.import_module(module), name)
        run = uvloop.run if loop == "uvloop" else asyncio.run
        run(_run(wire, witness, role, args))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _main(control_fd: int, witness_fd: int) -> None:
    control = socket.socket(fileno=control_fd)
    os.set_inheritable(control_fd, False)
    witness = Witness(witness_fd)
    faulthandler.register(signal.SIGUSR1)  # a worker that hangs says where
    for module in ("cancels", "cycles", "parks", "readers", "writers"):
        importlib.import_module(f"tests.stress.{module}")
    gc.collect()
    gc.freeze()
    workers: dict[int, int] = {}
    with control, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fileobj)
                    os.close(key.fd)
                    os.waitpid(workers.pop(key.fd), 0)
                    continue
                request, fds, _, _ = socket.recv_fds(control, _LARGEST, 1)
                if not request:
                    for pid in workers.values():
                        os.kill(pid, signal.SIGKILL)
                    return
                pid = os.fork()
                if not pid:
                    # Not selector.close(): its epoll set is shared with the nursery.
                    control.close()
                    for pidfd in workers:
                        os.close(pidfd)
                    _work(Wire(socket.socket(fileno=fds[0])), witness, pickle.loads(request))
                os.close(fds[0])
                pidfd = os.pidfd_open(pid)
                workers[pidfd] = pid
                selector.register(pidfd, selectors.EVENT_READ)
                socket.send_fds(control, [b"%d" % pid], [pidfd])


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
