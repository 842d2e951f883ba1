"""Bare sockets that have the right keys, or not, and say whatever a test wants to be said."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from aioshm import Handle, PickleCodec
from aioshm.links import flow_wire
from aioshm.links.flow import cut
from aioshm.links.flow_batch import pack_alone
from aioshm.links.flow_wire import START, Ack, Breach, Data, Hello, Piece, Position, State, Welcome
from aioshm.shm.layout import OBJECT
from tests.helpers import HANG, until
from tests.remotes import LOOPBACK, remote_queue


class _Wire:
    """A socket with a context of its own."""

    def __init__(self, kind: int) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, int(HANG * 1000))

    async def frames(self) -> list[bytes]:
        """Wait for a message of ZeroMQ's."""
        await until(lambda: self.socket.poll(0))
        return self.socket.recv_multipart()

    def silent(self) -> bool:
        """Tell whether there is nothing to receive."""
        return not self.socket.poll(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.destroy(linger=0)


def key_pair() -> tuple[str, str]:
    """A public key and its secret one."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


class RawReader(_Wire):
    """A reader's socket.

    Args:
        handle: where to connect, and the token.
        rank, session: who it says it is.
        curve: with the keys of the handle; without, in the clear.
    """

    def __init__(
        self, handle: Handle, rank: int = 0, session: int = 1, *, curve: bool = True
    ) -> None:
        super().__init__(zmq.DEALER)
        self.rank, self.session = rank, session
        self.token = bytes.fromhex(handle.token)
        if curve:
            self.socket.setsockopt_string(zmq.CURVE_SERVERKEY, handle.server_key)
            self.socket.setsockopt_string(zmq.CURVE_PUBLICKEY, handle.client_public)
            self.socket.setsockopt_string(zmq.CURVE_SECRETKEY, handle.client_secret)
        self.socket.connect(handle.address)

    @property
    def tag(self) -> bytes:
        """What its frames carry."""
        return flow_wire.reader_tag(self.token, self.rank, self.session)

    def hello(
        self,
        connection: int = 0,
        consumed: int = START,
        position: Position = (0, 0),
        rank: int | None = None,
    ) -> bytes:
        """Build a HELLO, by its own tag."""
        rank = self.rank if rank is None else rank
        hello = Hello(self.tag, rank, self.session, connection, consumed, position, os.getpid())
        return flow_wire.pack_hello(hello)

    def ack(self, consumed: int, position: Position | None = None) -> bytes:
        """Build an ACK."""
        return flow_wire.pack_ack(Ack(self.tag, consumed, position or (consumed, 0)))

    def send(self, *parts: bytes) -> None:
        """Send a message of ZeroMQ's."""
        self.socket.send_multipart(parts)

    async def receive(self) -> Any:
        """Wait for a frame of the protocol."""
        frame = flow_wire.unpack_from_writer(await self.frames())
        assert not isinstance(frame, Breach)
        assert frame.tag == flow_wire.writer_tag(self.token, self.rank, self.session)
        return frame

    async def join(self, **hello: Any) -> Position:
        """Say HELLO and wait for the answers; returns where the writer goes on."""
        self.send(self.hello(**hello))
        welcome = await self.receive()
        assert isinstance(welcome, Welcome)
        return welcome.position

    async def receive_to(self, sequence: int) -> None:
        """Receive data until all below a sequence is there."""
        while True:
            frame = await self.receive()
            if isinstance(frame, Data):
                (last, index), count, _ = frame.pieces[-1]
                if index == count - 1 and last >= sequence - 1:
                    return


class RawWriter(_Wire):
    """A writer's socket: it has a server's keys, and lets everybody in.

    Args:
        port: where to listen; 0 is any.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(zmq.ROUTER)
        self.public, secret = key_pair()
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.CURVE_SERVER, 1)
        self.socket.setsockopt_string(zmq.CURVE_SECRETKEY, secret)
        self.socket.bind(f"tcp://{LOOPBACK}:{port or '*'}")
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.token = b""
        self.route = b""
        self.hello: Hello | None = None

    def handle(self, like: Handle) -> Handle:
        """A handle whose readers come here, although the rest is somebody else's."""
        self.token = bytes.fromhex(like.token)
        return dataclasses.replace(like, address=self.address, server_key=self.public)

    async def greeted(self) -> Hello:
        """Wait for the HELLO of a new connection."""
        while True:
            self.route, *parts = await self.frames()
            frame = flow_wire.unpack_from_reader(parts)
            if isinstance(frame, Hello):
                self.hello = frame
                return frame

    def tag(self, rank: int = 0, session: int | None = None) -> bytes:
        """What its frames carry; wrong for another rank or session than the reader's."""
        assert self.hello is not None
        session = self.hello.session if session is None else session
        return flow_wire.writer_tag(self.token, rank, session)

    def send(self, *parts: bytes) -> None:
        """Send a message of ZeroMQ's to whom said HELLO last."""
        self.socket.send_multipart([self.route, *parts])

    def go_on(self, position: Position = (0, 0)) -> None:
        """Answer a HELLO: the reader goes on there, and all have joined."""
        self.send(flow_wire.pack_welcome(Welcome(self.tag(), position)))
        self.send(
            flow_wire.pack_state(State(self.tag(), True, False, 0, 0, position[0], position[0]))
        )

    def data(self, number: int, obj: Any, tag: bytes | None = None) -> list[bytes]:
        """Build a message, the `number`-th of the flow and of the program."""
        return data(self.tag() if tag is None else tag, number, obj)


def data(tag: bytes, number: int, obj: Any) -> list[bytes]:
    """Build the frames of a message that fits one piece."""
    frames: Sequence[Any] = pack_alone(OBJECT, number, PickleCodec().encode(obj))
    (piece,) = cut(frames, bytes)
    return [flow_wire.pack_pieces(tag, [Piece((number, 0), 1, len(piece))]), piece]


async def spent_handle(**options: Any) -> Handle:
    """The handle of a queue that is no more."""
    async with remote_queue(**options) as queue:
        return queue.handle


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)
