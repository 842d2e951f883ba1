"""What nobody can be faster than: pickle alone, memcpy alone, two eventfds and epoll."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable

from aioshm import PickleCodec
from aioshm.cli.bench.payload import Payload


def pickle_alone(payload: Payload, seconds: float) -> float:
    """Pickled and unpickled in one process, its large buffers left where they are: messages/s."""
    codec, make = PickleCodec(), payload.make

    def once(number: int) -> None:
        codec.decode(codec.encode(make(number)))

    return _rate(once, payload, seconds)


def memcpy_alone(payload: Payload, seconds: float) -> float:
    """The bytes copied to other memory, and from there into new one: messages/s."""
    nbytes = payload.encoded()
    ring = bytearray(max(nbytes, 16 << 20))
    source = ctypes.create_string_buffer(nbytes)
    at = (ctypes.c_char * len(ring)).from_buffer(ring)
    base, slots = ctypes.addressof(at), len(ring) // nbytes
    memmove, string_at = ctypes.memmove, ctypes.string_at

    def once(number: int) -> None:
        slot = base + number % slots * nbytes
        memmove(slot, source, nbytes)
        string_at(slot, nbytes)

    return _rate(once, payload, seconds)


def _rate(once: Callable[[int], None], payload: Payload, seconds: float) -> float:
    number = 0
    start = time.monotonic_ns()
    end = start + int(seconds * 1e9)
    while (now := time.monotonic_ns()) < end:
        for _ in range(payload.look_every):
            once(number)
            number += 1
    return number * 1e9 / (now - start)


class Bells:
    """Two eventfds, and an epoll at each end: a bare ping-pong between two processes."""

    def __init__(self) -> None:
        self._there, self._back = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2))

    @staticmethod
    def _listening_to(fd: int) -> Callable[[], int]:
        epoll = select.epoll()
        epoll.register(fd, select.EPOLLIN)
        poll, read = epoll.poll, os.eventfd_read

        def listen() -> int:
            poll()
            return read(fd)

        return listen

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._there)
        os.close(self._back)

    def pong(self) -> dict[str, int]:
        """Answer until told to end, by a ring of more than 1."""
        listen = self._listening_to(self._there)
        while listen() == 1:
            os.eventfd_write(self._back, 1)
        return {"messages": 0, "wrong": 0}

    def ping(self, seconds: float, interval: float) -> list[int]:
        """Ring and wait for the answer, over and over: nanoseconds of each."""
        listen, times = self._listening_to(self._back), list[int]()
        begin = time.monotonic()
        while time.monotonic() < begin + seconds:
            start = time.monotonic_ns()
            os.eventfd_write(self._there, 1)
            listen()
            times.append(time.monotonic_ns() - start)
            if interval:
                due = begin + len(times) * interval
                time.sleep(max(0.0, due - time.monotonic()))
        os.eventfd_write(self._there, 2)
        return times
