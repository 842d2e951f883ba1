"""The option for a longer bound, and the tables that the search leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Record = Callable[..., None]
"""``record(title, *cells)``: add a row to a table."""

HEADS = {
    "explored": ("scenario", "mode", "states", "steps", "schedules", "seconds"),
    "explored, two readers and more": (
        "scenario", "mode", "spots", "states", "stand for", "seconds"),
    "wandered": ("scenario", "mode", "states", "steps", "schedules", "seconds"),
    "mutants": ("tag", "what is wrong", "dies in", "scenario", "first violation"),
}  # fmt: skip

_TABLES = pytest.StashKey[dict[str, list[tuple[str, ...]]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin with empty tables."""
    tables: dict[str, list[tuple[str, ...]]] = {title: [] for title in HEADS}
    config.stash[_TABLES] = tables


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """Add a row to one of the tables."""
    tables = request.config.stash[_TABLES]

    def add(title: str, *cells: object) -> None:
        assert len(cells) == len(HEADS[title])
        tables[title].append(tuple(_text(cell) for cell in cells))

    return add


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Tell whether the longer bound was asked for."""
    return bool(request.config.getoption("--model-depth") == "long")


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.1f}"
    if isinstance(cell, int):
        return f"{cell:,}" if cell < 10**12 else f"{cell:.2e}"
    return str(cell)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables."""
    for title, rows in terminalreporter.config.stash[_TABLES].items():
        if not rows:
            continue
        terminalreporter.section(f"model: {title}")
        lines = [HEADS[title], *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            terminalreporter.write_line("  ".join(cells).rstrip())
