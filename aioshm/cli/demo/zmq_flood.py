"""The other side of the comparison: the same flood over zmq.asyncio and ``ipc://``.

One PUSH socket for each reader, and every message goes to all of them: PUSH waits at its
high-water mark, where PUB and XPUB drop. A message is pickled once, as in aioshm.

The sockets have abstract names (``@``), which leave no file behind. The writer binds and
the readers connect, so that nobody is unpickled but the writer.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
import time
from contextlib import ExitStack

import zmq
import zmq.asyncio

from aioshm.cli.demo.flood import enough_lines, send_for
from aioshm.cli.demo.message import Message, Verifier, messages
from aioshm.cli.line import Line

_END = b""


async def write(line: Line, readers: int, seconds: float) -> None:
    """Be the writer: send for so long, then wait for the end of the line."""
    name = f"ipc://@aioshm-demo-{secrets.token_hex(16)}"
    with zmq.asyncio.Context() as context, ExitStack() as stack:
        sockets = []
        for rank in range(readers):
            socket = stack.enter_context(context.socket(zmq.PUSH))
            socket.linger = 0
            socket.bind(f"{name}-{rank}")
            sockets.append(socket)
        lines = messages(enough_lines(seconds))
        line.tell("here", address=name)

        async def send(message: Message) -> None:
            data = pickle.dumps(message, 5)
            for socket in sockets:
                await socket.send(data)
            if not message[0] % 64:
                await asyncio.sleep(0)  # sends that need not wait let no other task run

        # Nothing can be sent to a socket before its reader has connected.
        for socket in sockets:
            poller = zmq.asyncio.Poller()
            poller.register(socket, zmq.POLLOUT)
            await poller.poll()
        counts = await send_for(seconds, lines, send, line)
        for socket in sockets:
            await socket.send(_END)
        line.tell("done", **counts)
        # What is still on its way would be lost with the sockets: wait for the line's end.
        await line.hear()


async def read(line: Line, address: str, rank: int) -> None:
    """Be a reader: verify all there is, until the writer says that it was the last."""
    verifier = Verifier()
    with zmq.asyncio.Context() as context, context.socket(zmq.PULL) as socket:
        socket.linger = 0
        socket.connect(f"{address}-{rank}")
        while data := await socket.recv():
            verifier.see(pickle.loads(data))
        line.tell("done", end=time.monotonic_ns(), **verifier.report())
