"""The entry of the demo's child processes: one end of a queue, in a process of its own.

``python -m aioshm.cli.demo.child`` reads from its line which act's which end to be, in
which loop, and with what arguments; a handle comes that way too, because other users can
read a command line.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

from aioshm.cli.line import Line
from aioshm.cli.loops import new_loop


async def _be(line: Line, act: str, end: str, **values: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    line.start(task)
    try:
        await getattr(importlib.import_module(f"aioshm.cli.demo.{act}"), end)(line, **values)
    except Exception as error:
        # One line for the parent's report; the traceback goes to stderr all the same.
        line.tell("error", text=f"{type(error).__name__}: {error}")
        raise
    finally:
        line.stop()


def main() -> int:
    """Be what the first line says, until that is done or the parent is gone."""
    line = Line()
    values = line.first()
    if not values:
        return 0
    loop = new_loop(values.pop("loop"))
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_be(line, **values))
    except asyncio.CancelledError:
        if not line.cut:
            raise
    except BrokenPipeError:
        pass  # the parent is gone, and the line told so before it was heard
    return 0


if __name__ == "__main__":
    sys.exit(main())
