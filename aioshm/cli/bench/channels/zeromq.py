"""zmq.asyncio: PUSH/PULL and XPUB/SUB over ``ipc://``, ROUTER/DEALER over ``tcp://``.

Messages are pickled once, as aioshm does it: large buffers are frames of their own. They
are sent with a copy, because what aioshm promises needs one (the caller may change the
object when ``send`` returns), and received without. `PushPullNoCopy` sends without one
as well. Small messages are received as ``bytes``, which is the faster way for them.

The ipc sockets have abstract names (``@``), which leave no file behind.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import zmq
import zmq.asyncio

from aioshm import PickleCodec
from aioshm.cli.bench.channels.channel import Channel, In, Out, Setting

_FULL_FOR = 1e-3
_HELLO = b"here"
_LARGE = 8192  # where `PickleCodec` begins to make frames of buffers

Send = Callable[[Any], Awaitable[object]]


class _Zmq(Channel):
    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._name = f"ipc://@aioshm-bench-{secrets.token_hex(16)}"
        self._encode = PickleCodec().encode

    def _socket(self, context: zmq.asyncio.Context, kind: int) -> zmq.asyncio.Socket:
        socket = context.socket(kind)
        socket.set_hwm(self.setting.depth)
        return socket

    @abstractmethod
    def _open(self, context: zmq.asyncio.Context) -> Out:
        """Open the writer's sockets."""

    @abstractmethod
    def _join(self, context: zmq.asyncio.Context, rank: int) -> zmq.asyncio.Socket:
        """Open a reader's socket."""

    async def _greet(self, socket: zmq.asyncio.Socket) -> None:
        """Tell the writer that a reader is there."""

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Out]:
        """Open the writing end."""
        context = zmq.asyncio.Context()
        out = self._open(context)
        sent = 0

        async def send(message: Any) -> None:
            nonlocal sent
            sent += 1
            if not sent % 1024:
                await asyncio.sleep(0)  # sends that need not wait let no other task run
            await out.send(message)

        try:
            yield Out(send, out.ready)
        finally:
            # The readers have got everything by now, or something broke.
            context.destroy(linger=0)

    @asynccontextmanager
    async def reader(self, rank: int) -> AsyncIterator[In]:
        """Open a reading end."""
        context = zmq.asyncio.Context()
        socket = self._join(context, rank)

        async def receive_small() -> Any:
            return pickle.loads(await socket.recv())

        async def receive_large() -> Any:
            frames = await socket.recv_multipart(copy=False)
            head, *others = (frame.buffer for frame in frames)
            return pickle.loads(head, buffers=others)

        receive = receive_small if self.setting.nbytes < _LARGE else receive_large
        try:
            yield In(receive, lambda: self._greet(socket))
        finally:
            context.destroy(linger=0)

    def _retrying(self, socket: zmq.asyncio.Socket, to: Sequence[bytes] = ()) -> Send:
        """Send on a socket whose POLLOUT says nothing about room for this message."""

        async def send(message: Any) -> None:
            frames = [*to, *self._encode(message)]
            while True:
                try:
                    await socket.send_multipart(frames, zmq.DONTWAIT)
                    return
                except zmq.Again:
                    await asyncio.sleep(_FULL_FOR)

        return send


class PushPull(_Zmq):
    """One PUSH socket for each reader; PUSH waits at its high-water mark."""

    _copy = True

    def _open(self, context: zmq.asyncio.Context) -> Out:
        sockets = [self._socket(context, zmq.PUSH) for _ in range(self.setting.readers)]
        for rank, socket in enumerate(sockets):
            socket.bind(f"{self._name}-{rank}")
        self.tell(self._name)

        copy = self._copy

        async def send(message: Any) -> None:
            frames = self._encode(message)
            if len(frames) == 1:
                for socket in sockets:
                    await socket.send(frames[0], copy=copy)
            else:
                for socket in sockets:
                    await socket.send_multipart(frames, copy=copy)

        async def ready() -> None:
            # Nothing can be sent to a socket before its reader has connected.
            for socket in sockets:
                poller = zmq.asyncio.Poller()
                poller.register(socket, zmq.POLLOUT)
                await poller.poll()

        return Out(send, ready)

    def _join(self, context: zmq.asyncio.Context, rank: int) -> zmq.asyncio.Socket:
        socket = self._socket(context, zmq.PULL)
        socket.connect(f"{self.hear(rank)}-{rank}")
        return socket


class PushPullNoCopy(PushPull):
    """The same, where the caller must leave the object alone for an unknown time."""

    _copy = False


class XpubSub(_Zmq):
    """One XPUB socket for all readers, told to refuse (NODROP) where it would drop."""

    def _open(self, context: zmq.asyncio.Context) -> Out:
        socket = self._socket(context, zmq.XPUB)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        socket.bind(self._name)
        self.tell(self._name)

        async def ready() -> None:
            for _ in range(self.setting.readers):
                await socket.recv()  # a subscription

        return Out(self._retrying(socket), ready)

    def _join(self, context: zmq.asyncio.Context, rank: int) -> zmq.asyncio.Socket:
        socket = self._socket(context, zmq.SUB)
        socket.subscribe(b"")
        socket.connect(self.hear(rank))
        return socket


class RouterDealer(_Zmq):
    """A ROUTER and a DEALER over TCP on this machine, for one reader."""

    def _open(self, context: zmq.asyncio.Context) -> Out:
        socket = self._socket(context, zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.tell(f"tcp://127.0.0.1:{socket.bind_to_random_port('tcp://127.0.0.1')}")
        to: list[bytes] = []

        async def ready() -> None:
            identity, _ = await socket.recv_multipart()
            to.append(identity)

        return Out(self._retrying(socket, to), ready)

    def _join(self, context: zmq.asyncio.Context, rank: int) -> zmq.asyncio.Socket:
        socket = self._socket(context, zmq.DEALER)
        socket.connect(self.hear(rank))
        return socket

    async def _greet(self, socket: zmq.asyncio.Socket) -> None:
        await socket.send(_HELLO)
