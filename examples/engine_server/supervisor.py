"""Sees to it that there is an engine.

Each start has fresh queues, and so fresh handles: nothing of a dead engine's can get into
the next one, and what ran on it fails at once. An engine never outlives its queue of
requests, so there is nothing to clean up.
"""

import asyncio
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process

from aioshm import AioshmError, Handle, MessageQueue
from examples.engine_server.client import Engine, EngineDown
from examples.engine_server.engine import HANDLE

START = 30.0  # seconds that the engine may take to be trained and to join
LEAVE = 5.0  # seconds that it may take to end when its requests do
APART = 0.5  # seconds from one start to the next

# The one that uvicorn prints without being told to.
logger = logging.getLogger("uvicorn.error")


class Supervisor:
    """Starts the engine, and another one whenever it ends.

    Attributes:
        starts: how many were started.
    """

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self.starts = 0

    @property
    def engine(self) -> Engine:
        """The engine that takes requests now.

        Raises:
            EngineDown: there is none.
        """
        if self._engine is None:
            raise EngineDown("the engine is starting; ask again in a second")
        return self._engine

    async def run(self) -> None:
        """Keep an engine running; cancelling ends it and waits until it is gone."""
        while True:
            began = time.monotonic()
            try:
                await self._live()
                logger.warning("The engine left; starting another")
            except (AioshmError, EngineDown, OSError, ValueError) as error:
                logger.warning("%s; starting another engine", error)
            await asyncio.sleep(max(0.0, began + APART - time.monotonic()))

    async def _live(self) -> None:
        async with MessageQueue.create(name="requests") as requests:
            self.starts += 1
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "examples.engine_server.engine"),
                env={**os.environ, HANDLE: requests.export_handle().to_string()},
                stdout=PIPE,
                start_new_session=True,  # Ctrl-C is for the server to handle
            )
            try:
                async with asyncio.timeout(START):
                    handle = await steps_handle(process)
                async with MessageQueue.create_from_handle(handle, rank=0) as steps:
                    await steps.wait_until_ready(START)
                    await requests.wait_until_ready(START)
                    self._engine = Engine(process.pid, requests, steps)
                    logger.info("Engine (pid %d) is ready", process.pid)
                    await self._engine.collect()
            finally:
                engine, self._engine = self._engine, None
                if engine is not None:
                    engine.fail("the engine ended before it was done; ask again")
                await requests.aclose()  # an engine that lives reads to the end and leaves
                await gone(process)


async def steps_handle(process: Process) -> Handle:
    """Wait for the line that the engine prints once it has joined."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise EngineDown(f"the engine ended with {await process.wait()} before it had joined")
    return Handle.from_string(line.decode())


async def gone(process: Process) -> None:
    """Wait until the engine has ended; one that is stuck is killed."""
    try:
        async with asyncio.timeout(LEAVE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
