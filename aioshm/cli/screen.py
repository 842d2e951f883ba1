"""What a command shows: plain lines anywhere, a live bar and a table on a terminal.

`open_screen` chooses. The plain screen writes whole lines without a control code, one a
second while something goes on; the rich one needs the package of that name.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_FIRST, _EVERY = 0.3, 1.0

Row = Sequence[str]
"""The cells of a line of a table; the first is the name of its group."""

Mood = Literal["good", "cut short", "bad"]
_STYLES: dict[Mood, str] = {"good": "bold green", "cut short": "yellow", "bad": "bold red"}


class Screen(Protocol):
    """Where a command shows what it does."""

    def title(self, text: str) -> None:
        """Say what this is, once."""

    def act(self, name: str, text: str) -> None:
        """Begin an act."""

    def progress(self, done: float, text: str) -> None:
        """Show how far the act is, from 0 to 1, and what is seen there."""

    def say(self, text: str) -> None:
        """Show a result."""

    def table(self, headings: Row, rows: Sequence[Row]) -> None:
        """Show a table, at the end; nothing if it is empty."""

    def verdict(self, lines: Sequence[str], mood: Mood) -> None:
        """Say in the end how it went."""

    def close(self) -> None:
        """Give the terminal back as it was; safe to call twice."""


def open_screen(stream: TextIO) -> Screen:
    """Choose the screen that suits the stream."""
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        try:
            return RichScreen(stream)
        except ImportError:
            pass  # rich comes with aioshm[cli]; plain lines say the same
    return PlainScreen(stream)


def _grouped(rows: Sequence[Row]) -> list[list[str]]:
    """The rows with each group's name once."""
    groups = [""] + [row[0] for row in rows]
    firsts = [one if one != before else "" for before, one in itertools.pairwise(groups)]
    return [[first, *row[1:]] for first, row in zip(firsts, rows, strict=True)]


class PlainScreen:
    """Lines of plain text.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._show_at = 0.0

    def _line(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)

    def title(self, text: str) -> None:
        """Say what this is."""
        self._line(text)

    def act(self, name: str, text: str) -> None:
        """Begin an act."""
        self._line()
        self._line(f"{name}: {text}")
        self._show_at = time.monotonic() + _FIRST

    def progress(self, done: float, text: str) -> None:
        """Show how far the act is, but not too often."""
        now = time.monotonic()
        if now >= self._show_at:
            self._show_at = now + _EVERY
            self._line(f"    {done:4.0%}  {text}")

    def say(self, text: str) -> None:
        """Show a result."""
        self._line(f"  {text}")

    def table(self, headings: Row, rows: Sequence[Row]) -> None:
        """Show a table."""
        if not rows:
            return
        self._line()
        lines = [headings, *_grouped(rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            self._line("  ".join(cells).rstrip())

    def verdict(self, lines: Sequence[str], mood: Mood) -> None:
        """Say how it went."""
        self._line()
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """Nothing to give back."""


class RichScreen:
    """A live bar for the act that goes on, a table at the end.

    Args:
        stream: the terminal.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console: Console = Console(file=stream, highlight=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def title(self, text: str) -> None:
        """Say what this is."""
        self._console.print(text, style="bold", markup=False)

    def act(self, name: str, text: str) -> None:
        """Begin an act."""
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self.close()
        self._console.print(f"\n[bold cyan]{name}[/]: {text}")
        self._progress = Progress(
            TextColumn(" "),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=8,
            # What goes through it is the command's own, and all of it goes through `say`.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=1.0)
        self._progress.start()

    def progress(self, done: float, text: str) -> None:
        """Show how far the act is."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, description=text)

    def say(self, text: str) -> None:
        """Show a result, above the bar."""
        self._console.print(f"  {text}", markup=False)

    def table(self, headings: Row, rows: Sequence[Row]) -> None:
        """Show a table."""
        from rich import box
        from rich.table import Table

        self.close()
        if not rows:
            return
        table = Table(*headings, box=box.SIMPLE_HEAD, header_style="bold")
        for first, *others in _grouped(rows):
            if first and table.row_count:
                table.add_section()
            table.add_row(f"[cyan]{first}[/]", *others)
        self._console.print(table)

    def verdict(self, lines: Sequence[str], mood: Mood) -> None:
        """Say how it went."""
        self.close()
        for line in lines:
            style = "bold red" if line.startswith("FAILED") else _STYLES[mood]
            self._console.print(line, style=style, markup=False)

    def close(self) -> None:
        """Take the bar away and show the cursor again."""
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.stop()
