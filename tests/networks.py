"""Two machines and the cable between them, as far as TCP can tell.

Each machine is a network namespace; the cable is a pair of veth devices. Nothing of it has
a name outside this process: the namespaces live as long as their descriptors, and the cable
goes with them. So even a SIGKILL leaves nothing behind, and any number of tests may run at
the same time, all with the same addresses.

It needs root, and Debian's iproute2, nftables and util-linux.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import re
import socket
import struct
import subprocess
import threading
from types import TracebackType
from typing import Self

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("16sh14x")
_DEVICE = "cable"

# IPv6 addresses serve at once and outlive a cut, as those of IPv4 do by themselves.
_SETTINGS = """
for it in all default; do
  echo 0 >/proc/sys/net/ipv6/conf/$it/accept_dad
  echo 1 >/proc/sys/net/ipv6/conf/$it/keep_addr_on_down
done
"""

# Where packets come in: of one that is dropped on its way out, the sender's TCP is told.
_LOSS = """
table inet loss {{
  chain incoming {{
    type filter hook input priority 0;
    iif {device} numgen random mod 100 < {percent} counter drop
  }}
}}
"""


class Machine:
    """One end of the cable.

    Args:
        number: the last of its addresses' numbers.

    Attributes:
        ip4, ip6: its addresses.
        path: a path to its namespace.
        prefix: what to put before a command that is to run on it.
    """

    _fd: int
    _socket: socket.socket
    _counters: int

    def __init__(self, number: int) -> None:
        self.ip4, self.ip6 = f"10.0.0.{number}", f"fd00::{number}"
        failures: list[OSError] = []
        thread = threading.Thread(target=self._unshare, args=(failures,))
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
        self.prefix = ("nsenter", f"--net={self.path}")

    def _unshare(self, failures: list[OSError]) -> None:
        """In a thread of its own, which moves to the new namespace alone."""
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            number = ctypes.get_errno()
            failures.append(OSError(number, f"no new network namespace: {os.strerror(number)}"))
            return
        self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._counters = os.open("/proc/thread-self/net/dev", os.O_RDONLY)

    def run(self, *command: str, text: str = "") -> str:
        """Run a command on it, with a text to read; gives what it printed."""
        return subprocess.run(
            [*self.prefix, *command], input=text, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` on it."""
        self.run("ip", *arguments)

    def received(self) -> int:
        """Give the bytes that came in by the cable so far, headers included."""
        found = re.search(rf"{_DEVICE}:\s*(\d+)".encode(), os.pread(self._counters, 4096, 0))
        assert found
        return int(found[1])

    def up(self, yes: bool) -> None:
        """Switch its end of the cable on or off, within microseconds."""
        name = _DEVICE.encode()
        request = fcntl.ioctl(self._socket, _SIOCGIFFLAGS, _IFREQ.pack(name, 0))
        flags = _IFREQ.unpack(request)[1] & ~_IFF_UP
        fcntl.ioctl(self._socket, _SIOCSIFFLAGS, _IFREQ.pack(name, flags | _IFF_UP * yes))

    def close(self) -> None:
        """Let go of it; it ends with the last process on it."""
        os.close(self._fd)
        self._socket.close()
        os.close(self._counters)


class Cable:
    """Two machines and the cable between them; a context manager.

    Attributes:
        near, far: the machines.
    """

    def __init__(self) -> None:
        self.near = Machine(1)
        try:
            self.far = Machine(2)
        except BaseException:
            self.near.close()
            raise
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        for machine in (self.near, self.far):
            machine.run("sh", "-e", text=_SETTINGS)
            machine.ip("link", "set", "lo", "up")
        peer = ("type", "veth", "peer", "name", _DEVICE, "netns", self.far.path)
        self.near.ip("link", "add", _DEVICE, *peer)
        for machine, other in ((self.near, self.far), (self.far, self.near)):
            machine.ip("address", "add", f"{machine.ip4}/24", "dev", _DEVICE)
            machine.ip("address", "add", f"{machine.ip6}/64", "dev", _DEVICE, "nodad")
            machine.ip("link", "set", _DEVICE, "up")
            # The answer to who has an address is often lost while the other end comes up, and
            # would be asked for again only after a second.
            for table in ("arp_cache", "ndisc_cache"):
                machine.ip("ntable", "change", "name", table, "dev", _DEVICE, "retrans", "20")
            machine.ip("route", "add", "default", "via", other.ip4)

    def cut(self, source: random.Random | None = None) -> None:
        """Cut it: from now on packets vanish, and nobody is told.

        Args:
            source: draws the end at which it is pulled out; None takes the near one. That
                end knows of no way to the other any more; the other sends into the void.
        """
        machines = [self.near, self.far]
        (source.choice(machines) if source else self.near).up(False)

    def mend(self) -> None:
        """Make it whole."""
        for machine in (self.near, self.far):
            machine.up(True)

    def lose(self, percent: int) -> None:
        """Lose so many of a hundred packets in either direction, from now on."""
        for machine in (self.near, self.far):
            # A packet is what fits the cable, not what TCP hands over at once.
            machine.ip("link", "set", _DEVICE, "gso_max_segs", "1")
            machine.run("nft", "-f", "-", text=_LOSS.format(device=_DEVICE, percent=percent))

    def lost(self) -> int:
        """Give how many packets `lose` has taken so far."""
        listings = [m.run("nft", "list", "table", "inet", "loss") for m in (self.near, self.far)]
        return sum(int(count) for text in listings for count in re.findall(r"packets (\d+)", text))

    def close(self) -> None:
        """Let go of all of it."""
        self.near.close()
        self.far.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
