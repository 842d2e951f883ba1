"""One measurement at a time, each in a child process of its own, and nothing left of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from types import TracebackType
from typing import Any, Self

from aioshm.cli.bench.channels.iceoryx import leftovers
from aioshm.cli.bench.contenders import Contender
from aioshm.cli.bench.plan import Case
from aioshm.cli.children import HANG, Children

_GONE_WITHIN = 5.0


class Bench:
    """Starts the measurements.

    All their files lie in a folder that goes with it, so that it does not matter how the
    processes ended: sockets, and what iceoryx2 keeps.

    Args:
        loop: the event loop, by name.
    """

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._scratch = tempfile.mkdtemp(prefix="aioshm-bench-")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for path in leftovers(self._scratch):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._scratch)

    async def measure(self, case: Case, contender: Contender, seconds: float) -> dict[str, Any]:
        """Measure one case with one contender.

        Raises:
            ChildFailed: a process ended, erred or hangs.
        """
        env = {
            **os.environ,
            **contender.env,
            "XDG_RUNTIME_DIR": self._scratch,
            # numpy's threads would be there when the readers are forked, and do nothing.
            "OPENBLAS_NUM_THREADS": "1",
        }
        hang = HANG + 2 * seconds
        async with Children("aioshm.cli.bench.child", self._loop, hang, env) as children:
            child = children.start(contender.name)
            try:
                child.ask(case.asked(contender, seconds, self._scratch))
                return await child.expect("done")
            except BaseException:
                # It does not listen while it measures. Those that it forked go with it.
                if not child.exited.done():
                    child.kill()
                await asyncio.wait([child.silent], timeout=_GONE_WITHIN)
                raise
