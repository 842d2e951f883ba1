"""iceoryx2: publish and subscribe, where a reader polls.

Its Python binding has nothing that asyncio could wait on, so a reader looks again and
again and lets others run in between. What it would leave after a kill lies in the
scratch folder, and in /dev/shm under a prefix made of that folder's path (`leftovers`).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioshm.cli.bench.channels.channel import Channel, In, Out, Setting

_SHM = Path("/dev/shm")


def _prefix(scratch: str) -> str:
    # With the folder it lies in, so that it can be told whose processes left something.
    return "_".join([*Path(scratch).parts[-2:], ""])


def leftovers(scratch: str) -> Iterator[Path]:
    """The files outside the scratch folder that killed processes left."""
    return _SHM.glob(f"{_prefix(scratch)}*")


class Iceoryx(Channel):
    """A publish-subscribe service of bytes."""

    blocks = True

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._name = secrets.token_hex(16)
        self._node: Any = None

    def _service(self, iox: Any) -> Any:
        """The service, in a node of this process, which must live as long as its ends."""
        iox.set_log_level(iox.LogLevel.Fatal)
        config = iox.config.default()
        config.global_cfg.prefix = iox.FileName.new(_prefix(self.setting.scratch))
        config.global_cfg.root_path = iox.Path.new(self.setting.scratch)
        # Nobody here cleans up behind others: it would look at processes that are starting.
        config.global_cfg.node.cleanup_dead_nodes_on_creation = False
        config.global_cfg.node.cleanup_dead_nodes_on_destruction = False
        self._node = (
            iox.NodeBuilder.new()
            .config(config)
            .signal_handling_mode(iox.SignalHandlingMode.Disabled)
            .create(iox.ServiceType.Ipc)
        )
        return (
            self._node.service_builder(iox.ServiceName.new(self._name))
            .publish_subscribe(iox.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .max_subscribers(self.setting.readers)
            .max_publishers(1)
            .max_nodes(self.setting.readers + 1)
            .subscriber_max_buffer_size(self.setting.depth)
            .open_or_create()
        )

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[Out]:
        """Publish."""
        iox = importlib.import_module("iceoryx2")
        service = self._service(iox)
        publisher = (
            service.publisher_builder()
            .initial_max_slice_len(self.setting.nbytes)
            .allocation_strategy(iox.AllocationStrategy.PowerOfTwo)
            .backpressure_strategy(iox.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )

        async def send(message: Any) -> None:
            data = pickle.dumps(message, 5)
            sample = publisher.loan_slice_uninit(len(data))
            ctypes.memmove(sample.payload_ptr, data, len(data))
            sample.assume_init().send()

        async def ready() -> None:
            while service.dynamic_config.number_of_subscribers < self.setting.readers:
                os.sched_yield()
            publisher.update_connections()
            self.tell("connected")
            self.hear_answers()

        try:
            yield Out(send, ready)
        finally:
            publisher.delete()
            self._node = None

    @asynccontextmanager
    async def reader(self, rank: int) -> AsyncIterator[In]:
        """Subscribe."""
        iox = importlib.import_module("iceoryx2")
        service = self._service(iox)
        subscriber = service.subscriber_builder().buffer_size(self.setting.depth).create()

        async def receive() -> Any:
            while (sample := subscriber.receive()) is None:
                os.sched_yield()
            view = sample.payload().as_memory_view()
            message = pickle.loads(view)
            del view
            sample.delete()
            return message

        async def ready() -> None:
            # The first look connects the reader. Messages that filled its buffer before
            # that were seen to be followed by a hole.
            self.hear(rank)
            assert subscriber.receive() is None
            self.answer()

        try:
            yield In(receive, ready)
        finally:
            subscriber.delete()
            self._node = None
