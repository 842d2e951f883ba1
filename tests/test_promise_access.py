"""Promise 8: only holders of the handle, of the same user, get in; nobody else disturbs."""

from __future__ import annotations

import asyncio
import mmap
import os
import secrets
import socket
import stat
from pathlib import Path

import pytest

from aioshm import MessageQueue, QueueShutDown
from aioshm.links import hello
from tests.helpers import HANG


async def test_the_folder_is_private_and_nothing_in_it_has_a_telling_name() -> None:
    async with MessageQueue.create(name="steps") as writer:
        path = Path(writer.handle.path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.name.startswith("steps-")
        assert writer.handle.token not in repr(writer.handle)


async def test_noise_and_silence_on_the_socket_disturb_nobody() -> None:
    async with MessageQueue.create() as writer:
        strangers = []
        for packet in (b"", b"GET / HTTP/1.1\r\n", secrets.token_bytes(4000), b"aioshm\r\n", None):
            stranger = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stranger.connect(writer.handle.path)
            if packet is not None:
                stranger.send(packet)
            strangers.append(stranger)
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await asyncio.gather(writer.wait_until_ready(HANG), reader.wait_until_ready(HANG))
            await writer.enqueue("undisturbed")
            assert await reader.dequeue(HANG) == "undisturbed"
        for stranger in strangers:
            stranger.close()


async def test_a_reader_cannot_write_into_the_writers_memory() -> None:
    async with MessageQueue.create() as writer:
        token = bytes.fromhex(writer.handle.token)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(writer.handle.path)
            sock.send(hello.pack_hello(0, os.getpid(), token))
            await writer.wait_until_ready(HANG)
            packet, fds, _, _ = socket.recv_fds(sock, hello.LARGEST, 8)
            assert hello.unpack_welcome(packet) is not None
            with pytest.raises(OSError, match=r"not permitted|denied"):
                mmap.mmap(fds[0], 4096, flags=mmap.MAP_SHARED)
            with pytest.raises(OSError, match=r"not permitted|denied|Invalid"):
                os.pwrite(fds[0], b"x", 0)
            with pytest.raises(OSError, match=r"not permitted|denied|Invalid"):
                os.ftruncate(fds[0], 1)
            for fd in fds:
                os.close(fd)
            sock.send(hello.GOODBYE)


async def test_who_waits_to_be_let_in_when_the_writer_closes_hears_that() -> None:
    writer = MessageQueue.create()
    async with MessageQueue.create_from_handle(writer.handle, 0) as waiting:
        # It has knocked, and the writer does not answer before it closes.
        async with writer:
            pass
        with pytest.raises(QueueShutDown, match="before it let this reader in"):
            await waiting.wait_until_ready(HANG)
