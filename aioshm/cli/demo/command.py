"""The command itself: its options, and the acts in turn.

A signal that asks it to end cancels the acts, and what is known by then is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from aioshm.cli.children import ChildFailed
from aioshm.cli.demo import crash, flood, trickle, writer_gone
from aioshm.cli.demo.report import Report
from aioshm.cli.demo.stage import Stage
from aioshm.cli.ending import Interrupts, run_command
from aioshm.cli.loops import LOOPS
from aioshm.cli.machine import about
from aioshm.cli.screen import Mood, open_screen
from aioshm.cli.version import version

_ACTS = (flood, trickle, crash, writer_gone)
_MOST_READERS = 64

_SUMMARY = "show what the queue does, in four acts with real processes"
_DESCRIPTION = """\
Show what the queue does, in four acts. Every writer and every reader is a process of its
own; every message carries a number and a checksum, and every reader verifies both.

  flood        one writer sends the lines of Python's standard library as fast as it can;
               then zmq.asyncio does the same, for comparison
  trickle      100 messages a second, then none: latency, CPU and wake-ups
  crash        kill -9 a reader, and let a new process take its rank
  writer gone  kill -9 the writer: its readers still get all it wrote
"""
_EPILOG = """\
Exit status: 0 all checks passed, 1 one failed or something broke, 2 bad usage, 130 Ctrl-C.
With rich installed (pip install aioshm[cli]) a terminal shows a live bar and a table.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the commands."""
    parser = commands.add_parser(
        "demo",
        help=_SUMMARY,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--readers", type=_readers, default=3, metavar="N",
        help=f"readers in every act, 2 to {_MOST_READERS} (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, metavar="S",
        help="how long each flood, the trickle and the idle phase last (default: %(default)g); "
        "all of it takes about five times that, and a few seconds",
    )  # fmt: skip
    parser.add_argument(
        "--loop", choices=LOOPS, default="uvloop",
        help="the event loop of all processes (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true",
        help="print one JSON object at the end, and what people read to stderr",
    )  # fmt: skip
    parser.set_defaults(run=run)


def _readers(text: str) -> int:
    value = int(text)
    if not 2 <= value <= _MOST_READERS:
        raise argparse.ArgumentTypeError(
            f"{value} where 2 to {_MOST_READERS} were expected: one reader is killed, and the "
            "others must go on"
        )
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} where above 0 and up to 3600 were expected")
    return value


# argparse names the type of what it could not convert.
_readers.__name__, _seconds.__name__ = "number of readers", "number of seconds"


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns its exit status."""
    report = Report(args.readers, args.seconds, args.loop)
    return run_command(lambda: _show(report, args.json), args.loop)


async def _show(report: Report, as_json: bool) -> int:
    """Run the acts, and show how they went, however they end."""
    interrupts = Interrupts()
    screen = open_screen(sys.stderr if as_json else sys.stdout)
    try:
        try:
            screen.title(
                "aioshm {} demo: {readers} readers, {loop}, {implementation} {python}, {machine}, "
                "{cores} cores".format(version(), **vars(report), **about())
            )
            await _perform(Stage(report, screen))
        except asyncio.CancelledError:
            report.interrupted = interrupts.number
            if not report.interrupted:
                raise
        rows = [(row.act, row.what, row.value) for row in report.rows]
        screen.table(("act", "what", "value"), rows)
        screen.verdict(report.verdict(), _mood(report))
        if as_json:
            print(json.dumps(report.as_json()), flush=True)
    finally:
        screen.close()
        interrupts.close()
    return report.exit_status()


def _mood(report: Report) -> Mood:
    return "good" if report.ok else "cut short" if report.interrupted else "bad"


async def _perform(stage: Stage) -> None:
    for act in _ACTS:
        try:
            await act.conduct(stage)
        except asyncio.CancelledError:
            stage.report.row(act.ACT, "interrupted", stage.last)
            raise
        except BrokenPipeError:
            raise  # what is shown has nowhere to go
        except (ChildFailed, OSError) as error:
            stage.report.row(act.ACT, "broke off", stage.last)
            stage.report.failure = f"{act.ACT}: {error}"
            return
