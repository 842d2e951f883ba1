"""What every act gets: the options, somewhere to show and somewhere to note."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aioshm.cli.children import Child, Children, Event
from aioshm.cli.demo.report import Report
from aioshm.cli.screen import Screen


@dataclass
class Stage:
    """The surroundings of the acts.

    Args:
        report: what is known so far, and the options it depends on.
        screen: what is shown.

    Attributes:
        last: what was last shown as progress.
    """

    report: Report
    screen: Screen
    last: str = ""

    def act(self, name: str, text: str) -> None:
        """Begin an act."""
        self.last = "before it began"
        self.screen.act(name, text)

    def progress(self, done: float, text: str) -> None:
        """Show how far the act is, from 0 to 1, and what is seen there."""
        self.last = text
        self.screen.progress(done, text)

    def children(self) -> Children:
        """The child processes of an act, none yet."""
        return Children("aioshm.cli.demo.child", self.report.loop)

    def start_queue(self, children: Children) -> tuple[Child, list[Child]]:
        """Start a writer and the readers; they wait to be told what to be."""
        readers = [children.start(f"reader {rank}") for rank in range(self.report.readers)]
        return children.start("writer"), readers

    async def pass_time(
        self,
        children: Children,
        seconds: float,
        text: str,
        part: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """Let time pass, and show how it does: `part` is where it lies in the act."""
        begin, end = part
        start = time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            self.progress(begin + passed / seconds * (end - begin), text)
            await children.sleep(min(0.25, seconds - passed))


async def all_done(readers: list[Child]) -> list[Event]:
    """Wait until each of these children is done; what they report."""
    return [await reader.expect("done") for reader in readers]
