"""Counts, chances, and the words by which processes tell how far they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stress.witness import Witness

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a larger run more time."""
    scale = config.getoption("--remote-scale")
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(120 * max(1.0, scale)))


@pytest.fixture
def scaled(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How often to do what is done so often in CI."""
    scale = request.config.getoption("--remote-scale")
    return lambda count: max(1, round(count * scale))


@pytest.fixture
def source(request: pytest.FixtureRequest) -> random.Random:
    """Where a test's chances come from."""
    seed = request.config.getoption("--remote-seed")
    print(f"to repeat its chances: --remote-seed {seed}")
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Words that all processes of a test share."""
    it = Witness()
    yield it
    it.close()
