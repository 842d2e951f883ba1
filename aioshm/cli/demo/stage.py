"""What every act gets: the options, somewhere to show and somewhere to note."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aioshm.cli.demo.children import Child, Children, Event
from aioshm.cli.demo.report import Report
from aioshm.cli.demo.screen import Screen


@dataclass
class Stage:
    """The surroundings of the acts.

    Args:
        report: what is known so far, and the options it depends on.
        screen: what is shown.
    """

    report: Report
    screen: Screen

    def start_queue(self, children: Children) -> tuple[Child, list[Child]]:
        """Start a writer and the readers; they wait to be told what to be."""
        readers = [children.start(f"reader {rank}") for rank in range(self.report.readers)]
        return children.start("writer"), readers

    async def pass_time(self, children: Children, seconds: float, text: str) -> None:
        """Let time pass, and show how it does."""
        start = time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            self.screen.progress(passed / seconds, text)
            await children.sleep(min(0.25, seconds - passed))


async def all_done(readers: list[Child]) -> list[Event]:
    """Wait until each of these children is done; what they report."""
    return [await reader.expect("done") for reader in readers]
