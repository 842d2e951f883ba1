"""Who is measured: aioshm with each ring there is, its peers, and the floors."""

from __future__ import annotations

from dataclasses import dataclass, field

from aioshm.cli.version import version_of

RINGS = ("python", "c")
"""The rings of aioshm, as AIOSHM_RING names them."""


@dataclass(frozen=True)
class Contender:
    """One way to get messages across.

    Args:
        key: its name in JSON.
        name: its name for people.
        channel: the class, or the floor, that `child.py` measures.
        needs: what must be installed, if anything: a distribution, or the C ring.
        module: what is imported from there.
        env: environment of its processes.
    """

    key: str
    name: str
    channel: str
    needs: str = ""
    module: str = ""
    env: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def version(self) -> str | None:
        """The installed version, "" where there is nothing to install, None if it is missing."""
        if not self.needs:
            return ""
        return version_of(self.module, self.needs)


_CHANNELS = "aioshm.cli.bench.channels"


def _peer(key: str, name: str, channel: str, needs: str = "", module: str = "") -> Contender:
    return Contender(key, name, f"{_CHANNELS}.{channel}", needs, module)


def _aioshm(ring: str, name: str, needs: str = "", module: str = "") -> Contender:
    channel = f"{_CHANNELS}.shm.Shm"
    return Contender(f"aioshm-{ring}", name, channel, needs, module, {"AIOSHM_RING": ring})


AIOSHM = (
    _aioshm("python", "aioshm, Python ring"),
    _aioshm("c", "aioshm, C ring", "the C ring", "aioshm.shm._ring"),
)
REMOTE = _peer("aioshm-remote", "aioshm, remote reader, tcp + CURVE", "shm.Remote")
ZMQ_IPC = _peer("zmq-ipc", "zmq.asyncio ipc PUSH/PULL", "zeromq.PushPull", "pyzmq", "zmq")
ZMQ_NOCOPY = _peer(
    "zmq-nocopy", "zmq.asyncio ipc, copy=False", "zeromq.PushPullNoCopy", "pyzmq", "zmq"
)
ZMQ_XPUB = _peer("zmq-xpub", "zmq.asyncio ipc XPUB/SUB", "zeromq.XpubSub", "pyzmq", "zmq")
ZMQ_TCP = _peer("zmq-tcp", "zmq.asyncio tcp DEALER/ROUTER", "zeromq.RouterDealer", "pyzmq", "zmq")
MP_QUEUE = _peer("mp-queue", "multiprocessing.Queue", "blocking.MpQueue")
MP_PIPE = _peer("mp-pipe", "multiprocessing.Pipe", "blocking.MpPipe")
FASTER_FIFO = _peer(
    "faster-fifo", "faster-fifo", "blocking.FasterFifo", "faster-fifo", "faster_fifo"
)
ICEORYX = _peer("iceoryx2", "iceoryx2 (polling)", "iceoryx.Iceoryx", "iceoryx2", "iceoryx2")

PICKLE = Contender("pickle", "pickle alone", "pickle")
MEMCPY = Contender("memcpy", "memcpy alone", "memcpy")
EVENTFD = Contender("eventfd", "eventfd + epoll alone", "eventfd")

PEERS = (ZMQ_IPC, ZMQ_NOCOPY, ZMQ_XPUB, ZMQ_TCP, MP_QUEUE, MP_PIPE, FASTER_FIFO, ICEORYX)
FLOORS = (PICKLE, MEMCPY, EVENTFD)
ALL = (*AIOSHM, REMOTE, *PEERS, *FLOORS)
