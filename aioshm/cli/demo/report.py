"""What the demo found out: rows for people, values for programs, checks for both.

Acts add to it as they go, so that whatever ends the demo early, the report holds all
that was known by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aioshm.cli.machine import about
from aioshm.cli.version import version


@dataclass(frozen=True)
class Row:
    """One line of the table: in which act, what, how much."""

    act: str
    what: str
    value: str


@dataclass(frozen=True)
class Check:
    """One thing that had to be true."""

    act: str
    name: str
    ok: bool
    detail: str = ""


@dataclass
class Report:
    """What is known so far.

    Args:
        readers: readers in each act.
        seconds: how long each phase lasts.
        loop: the event loop, by name.

    Attributes:
        rows: the table.
        checks: what had to be true, and whether it was.
        values: by act, the figures.
        failure: why the demo could not go on, if so.
        interrupted: the signal that ended it, 0 if none did.
    """

    readers: int
    seconds: float
    loop: str
    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: str = ""
    interrupted: int = 0

    def row(self, act: str, what: str, value: str) -> None:
        """Add a line to the table."""
        self.rows.append(Row(act, what, value))

    def check(self, act: str, name: str, ok: bool, detail: str = "") -> None:
        """Note something that had to be true; `detail` says what was found where it was not."""
        self.checks.append(Check(act, name, ok, "" if ok else detail))

    def check_reader(self, act: str, name: str, said: Mapping[str, Any], messages: int) -> None:
        """Note whether a reader verified every message, given what it reported."""
        detail = "; ".join(said["problems"]) or f"{said['messages']} where {messages} were sent"
        ok = not said["wrong"] and said["messages"] == messages
        self.check(act, f"{name} verified every message", ok, detail)

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if not check.ok]

    @property
    def ok(self) -> bool:
        """Tell whether the demo came to its end and every check passed."""
        return not (self.failure or self.interrupted or self.failed)

    def exit_status(self) -> int:
        """0 all is well, 1 a check failed or something broke, 128 + signal if interrupted."""
        if self.interrupted:
            return 128 + self.interrupted
        return 0 if self.ok else 1

    def verdict(self) -> list[str]:
        """Say in lines how it went."""
        lines = [
            f"FAILED {check.act}: {check.name}{': ' * bool(check.detail)}{check.detail}"
            for check in self.failed
        ]
        if self.failure:
            lines.append(f"FAILED {self.failure}")
        passed = len(self.checks) - len(self.failed)
        if self.interrupted:
            lines.append(f"interrupted; {passed} of {len(self.checks)} checks so far passed")
        elif self.ok:
            lines.append(f"all {passed} checks passed")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Give all of it as one object."""
        return {
            "aioshm": version(),
            **about(),
            "loop": self.loop,
            "readers": self.readers,
            "seconds": self.seconds,
            "acts": {_key(act): values for act, values in self.values.items()},
            "checks": [{**vars(check), "act": _key(check.act)} for check in self.checks],
            "failure": self.failure or None,
            "interrupted": bool(self.interrupted),
            "ok": self.ok,
        }


def _key(act: str) -> str:
    return act.replace(" ", "_")
