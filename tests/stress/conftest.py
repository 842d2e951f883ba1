"""The nursery, the score of each case, and the table at the end of the session."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from aioshm.links.folder import folder, sweep
from tests.stress.nursery import Nursery
from tests.stress.score import Score, table
from tests.stress.worker import Crew

HERE = Path(__file__).parent
SCORES = pytest.StashKey[list[Score]]()
SCORE = pytest.StashKey[Score]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a larger run more time."""
    scale = config.getoption("--stress-scale")
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(120 * max(1.0, scale)))


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """The nursery, one for all cases."""
    it = Nursery()
    yield it
    it.close()


@pytest.fixture
def crew(nursery: Nursery, score: Score) -> Iterator[Crew]:
    """The workers of one case; afterwards nothing but one dead socket may be left."""
    nursery.witness.clear()
    yield Crew(nursery)
    left = [path for path in folder().iterdir() if path.is_socket()]
    sweep(folder())
    if score.finished:
        assert len(left) <= 1, f"sockets of dead writers pile up: {left}"


@pytest.fixture
def score(request: pytest.FixtureRequest) -> Score:
    """The score of this case, which the table will show."""
    config = request.config
    seed, scale = config.getoption("--stress-seed"), config.getoption("--stress-scale")
    it = Score(seed, request.node.name, scale)
    config.stash.setdefault(SCORES, []).append(it)
    request.node.stash[SCORE] = it
    return it


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what repeats it."""
    report = yield
    score = item.stash.get(SCORE, None)
    if report.failed and score is not None:
        command = ["pytest", item.nodeid, "--stress-scale", f"{score.scale:g}"]
        command += ["--stress-seed", f"{score.seed}"]
        lines = [shlex.join(command), f"so far: {dict(score.counts)}", *score.shown]
        report.sections.append(("to repeat it", "\n".join(lines)))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    scores = config.stash.get(SCORES, [])
    if scores:
        scale = config.getoption("--stress-scale")
        terminalreporter.section(f"stress, scale {scale:g}")
        for line in table(scores):
            terminalreporter.write_line(line)
