"""The command itself: its options, the rounds in turn, and what is shown and written.

Every round measures every case, and within a case the contenders one after the other,
beginning with another one each time, so that what the machine does meanwhile falls on
all of them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from aioshm.cli.bench import plot, targets
from aioshm.cli.bench.contenders import ALL, Contender
from aioshm.cli.bench.measure import Bench
from aioshm.cli.bench.plan import CASES, Case, choose, missing_of
from aioshm.cli.bench.results import Results
from aioshm.cli.bench.surroundings import describe, surroundings
from aioshm.cli.children import ChildFailed
from aioshm.cli.ending import Interrupts, run_command
from aioshm.cli.loops import LOOPS
from aioshm.cli.screen import Screen, open_screen

_ROUNDS, _SECONDS = 5, 1.0
_QUICK_ROUNDS, _QUICK_SECONDS = 1, 0.2
_SHOW_EVERY = 0.25

_SUMMARY = "measure the queue beside its peers, on this machine"
_DESCRIPTION = """\
Measure aioshm and its peers side by side: throughput, round trips, payloads, CPU. Every
end is a process of its own; every message carries a number and a checksum, which every
reader verifies. The contenders take turns, round after round; the figures are medians.
"""
_EPILOG = """\
Exit status: 0 all was measured and verified, 1 something was wrong, 2 bad usage, 130 Ctrl-C.
A target that is missed is told and is no error. faster-fifo, iceoryx2 and numpy come with
pip install aioshm[bench], the C ring with a C compiler; what is missing is named and left out.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench`` to the commands."""
    parser = commands.add_parser(
        "bench",
        help=_SUMMARY,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true",
        help=f"the cases that matter most, {_QUICK_ROUNDS} round, within a minute",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD",
        help="only cases with one of these in their name: " + ", ".join(c.key for c in CASES),
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=_rounds, metavar="N",
        help=f"rounds (default: {_ROUNDS}, with --quick {_QUICK_ROUNDS})",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=_seconds, metavar="S",
        help=f"how long each measurement lasts (default: {_SECONDS:g}, "
        f"with --quick {_QUICK_SECONDS:g})",
    )  # fmt: skip
    parser.add_argument(
        "--loop", choices=LOOPS, default="uvloop",
        help="the event loop of all that have one (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--json", action="store_true",
        help="print one JSON object at the end, and what people read to stderr",
    )  # fmt: skip
    parser.add_argument(
        "--plot", type=_plot, metavar="FILE.svg", help="draw throughput and latency into a file"
    )
    parser.set_defaults(run=lambda args: _run(args, parser))


def _rounds(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{value} where 1 to 1000 were expected")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not (0 < value <= 3600 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text} where above 0 and up to 3600 were expected")
    return value


def _plot(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".svg" or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} is no FILE.svg in a folder to write to")
    return path


# argparse names the type of what it could not convert.
_rounds.__name__, _seconds.__name__ = "number of rounds", "number of seconds"


@dataclass
class _Run:
    """The options of a run, and what came of it."""

    cases: list[Case]
    rounds: int
    seconds: float
    loop: str
    quick: bool
    as_json: bool
    plot: Path | None
    results: Results
    missing: dict[str, str]
    interrupted: int = 0


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        cases = choose(args.quick, args.only)
    except LookupError as error:
        parser.error(f"argument --only: {error.args[0]}")
    missing = {contender.key: contender.needs for contender in ALL if contender.version is None} | {
        case.key: missing_of(case) for case in cases if missing_of(case)
    }
    cases = [case for case in cases if case.key not in missing]
    run = _Run(
        cases=cases,
        rounds=args.rounds or (_QUICK_ROUNDS if args.quick else _ROUNDS),
        seconds=args.seconds or (_QUICK_SECONDS if args.quick else _SECONDS),
        loop=args.loop,
        quick=args.quick,
        as_json=args.json,
        plot=args.plot,
        results=Results(cases),
        missing=missing,
    )
    return run_command(lambda: _show(run), run.loop)


async def _show(run: _Run) -> int:
    """Measure, and show what came of it, however it ends."""
    interrupts = Interrupts()
    screen = open_screen(sys.stderr if run.as_json else sys.stdout)
    around = surroundings(run.loop)
    try:
        screen.title(describe(around))
        if run.missing:
            names = ", ".join(sorted(set(run.missing.values())))
            screen.say(f"not installed: {names}")
        try:
            await _measure(run, screen)
        except asyncio.CancelledError:
            run.interrupted = interrupts.number
            if not run.interrupted:
                raise
        screen.table(*run.results.rows())
        verdicts = targets.judge(run.results)
        screen.table(targets.HEADINGS, targets.rows(verdicts))
        if run.plot and not run.interrupted:
            run.plot.write_text(plot.draw(run.results, describe(around)))
        failures = run.results.failures
        lines = [f"FAILED {failure}" for failure in failures]
        if run.interrupted:
            screen.verdict([*lines, "interrupted"], "cut short")
        else:
            screen.verdict(lines or ["every message was verified"], "bad" if lines else "good")
        if run.as_json:
            told = {
                **around,
                "rounds": run.rounds,
                "seconds": run.seconds,
                "quick": run.quick,
                "missing": run.missing,
                "cases": run.results.as_json(),
                "targets": targets.as_json(verdicts),
                "failures": failures,
                "interrupted": bool(run.interrupted),
                "ok": not (failures or run.interrupted),
            }
            print(json.dumps(told), flush=True)
    finally:
        screen.close()
        interrupts.close()
    if run.interrupted:
        return 128 + run.interrupted
    return 1 if failures else 0


async def _measure(run: _Run, screen: Screen) -> None:
    each = "1 round" if run.rounds == 1 else f"{run.rounds} rounds"
    screen.act("bench", f"{each} of {run.seconds:g} s for each measurement")
    turns = list(_turns(run))
    with Bench(run.loop) as bench:
        for number, (round_, case, contender) in enumerate(turns):
            text = f"round {round_ + 1} of {run.rounds}: {case.key}, {contender.name}"
            showing = asyncio.create_task(_show_progress(screen, number / len(turns), text))
            try:
                figures = await bench.measure(case, contender, run.seconds)
            except (ChildFailed, OSError) as error:
                run.results.failures.append(f"{case.key}: {contender.name}: {error}")
            else:
                run.results.add(case, contender, figures)
            finally:
                showing.cancel()
            if showing.done():
                showing.result()  # what is shown has nowhere to go


async def _show_progress(screen: Screen, done: float, text: str) -> None:
    while True:
        screen.progress(done, text)
        await asyncio.sleep(_SHOW_EVERY)


def _turns(run: _Run) -> list[tuple[int, Case, Contender]]:
    """Everything to measure, in its order."""
    turns = []
    for round_ in range(run.rounds):
        for case in run.cases:
            there = [one for one in case.contenders if one.key not in run.missing]
            first = round_ % len(there)
            turns += [(round_, case, one) for one in there[first:] + there[:first]]
    return turns
