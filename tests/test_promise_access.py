"""Promise 8: only holders of the handle, of the same user, get in; nobody else disturbs."""

from __future__ import annotations

import asyncio
import dataclasses
import mmap
import os
import secrets
import socket
import stat
from pathlib import Path

import pytest

from aioshm import AdmissionRefused, Handle, MessageQueue, QueueShutDown
from aioshm.links import hello
from tests.helpers import HANG, Child, Pipe, pair


async def test_a_wrong_token_is_refused_and_the_right_one_gets_in_afterwards() -> None:
    async with MessageQueue.create() as writer:
        forged = dataclasses.replace(writer.handle, token=secrets.token_hex(32))
        async with MessageQueue.create_from_handle(forged, 0) as reader:
            with pytest.raises(AdmissionRefused, match="wrong token"):
                await reader.dequeue(HANG)
            with pytest.raises(AdmissionRefused, match="wrong token"):
                reader.dequeue_nowait()
        async with MessageQueue.create_from_handle(writer.handle, 0) as reader:
            await reader.wait_until_ready(HANG)


async def test_a_rank_that_is_taken_is_refused_with_the_pid_that_has_it() -> None:
    writer, reader = await pair()
    async with writer, reader:
        async with MessageQueue.create_from_handle(writer.handle, 0) as second:
            with pytest.raises(AdmissionRefused, match=rf"taken by pid {os.getpid()}"):
                await second.wait_until_ready(HANG)


async def test_a_rank_the_handle_does_not_name_is_an_error_at_once() -> None:
    async with MessageQueue.create(2, local_reader_ranks=[3, 5]) as writer:
        with pytest.raises(ValueError, match=r"rank 0 .* has ranks \[3, 5\]"):
            MessageQueue.create_from_handle(writer.handle, 0)


async def knock_as_nobody(pipe: Pipe, handle: Handle) -> None:
    """Give up root, then try to get in with the right handle."""
    os.setuid(65534)
    try:
        async with MessageQueue.create_from_handle(handle, 0) as queue:
            await queue.wait_until_ready(HANG)
    except AdmissionRefused as error:
        pipe.send(str(error))


async def test_another_user_is_refused_even_with_the_handle(runtime_folder: Path) -> None:
    assert os.geteuid() == 0, "this test gives up root and cannot without it"
    async with MessageQueue.create() as writer:
        with Child(knock_as_nobody, writer.handle) as stranger:
            # The folder alone keeps it out.
            assert "Permission denied" in await stranger.receive()
            await stranger.join()
        for path in (runtime_folder, runtime_folder / "aioshm", Path(writer.handle.path)):
            path.chmod(0o777)
        with Child(knock_as_nobody, writer.handle) as stranger:
            assert "user 65534 is not the writer's user 0" in await stranger.receive()
            await stranger.join()


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
