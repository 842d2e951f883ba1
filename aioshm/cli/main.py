"""The ``aioshm`` command: which command was asked for, with what arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from aioshm.cli.bench import command as bench
from aioshm.cli.demo import command as demo
from aioshm.cli.version import version

_COMMANDS = (demo, bench)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        The exit status.

    Raises:
        SystemExit: bad usage (2), or help was asked for (0).
    """
    parser = argparse.ArgumentParser(
        prog="aioshm", description="An asyncio-native message queue between processes."
    )
    parser.add_argument("--version", action="version", version=f"aioshm {version()}")
    commands = parser.add_subparsers(title="commands", metavar="command")
    for command in _COMMANDS:
        command.register(commands)
    args = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] | None = getattr(args, "run", None)
    if run is None:
        parser.print_help(sys.stderr)
        return 2
    return run(args)
