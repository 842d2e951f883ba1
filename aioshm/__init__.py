"""An asyncio-native message queue between processes.

One writer broadcasts Python objects to known readers through a ring buffer in shared
memory; every reader gets every message. A file imports only from the floors below its
own; `shm` knows neither asyncio nor sockets::

    5   cli/                                the commands: aioshm demo, aioshm bench
    4   queue.py  over  ends/               MessageQueue, Writer, Reader: the asyncio shell
    3   links/  waiting.py                  how ends meet; how they wait
    2   shm/                                the engine: ring, layout, ordering, segment, doorbell
    1   codec.py  handle.py                 objects to buffers; the address of a queue
    0   errors.py                           everything that is raised
"""

from __future__ import annotations

import sys

if sys.platform != "linux":
    raise ImportError(
        f"aioshm runs on Linux only, and this is {sys.platform}: it is made of memfd, eventfd and "
        "SO_PEERCRED"
    )

from aioshm.codec import Codec, PickleCodec
from aioshm.errors import (
    AdmissionRefused,
    AioshmError,
    DecodeError,
    EncodeError,
    Evicted,
    ForkedQueue,
    Gap,
    MessageTooLarge,
    PeerDied,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    ReaderDied,
    SegmentError,
    WriterDied,
    WrongEnd,
)
from aioshm.handle import Handle
from aioshm.queue import MessageQueue, Reader, Writer
from aioshm.shm.choice import ring_implementation
from aioshm.shm.ordering import fence, fence_implementation
from aioshm.waiting import Backoff

__all__ = [
    "AdmissionRefused",
    "AioshmError",
    "Backoff",
    "Codec",
    "DecodeError",
    "EncodeError",
    "Evicted",
    "ForkedQueue",
    "Gap",
    "Handle",
    "MessageQueue",
    "MessageTooLarge",
    "PeerDied",
    "PickleCodec",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "Reader",
    "ReaderDied",
    "SegmentError",
    "Writer",
    "WriterDied",
    "WrongEnd",
    "fence",
    "fence_implementation",
    "ring_implementation",
]
