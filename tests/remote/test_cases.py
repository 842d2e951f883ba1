"""Every number of the list has its test."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from tests.remote.cases import CASES


def test_every_case_has_a_test() -> None:
    numbers = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        module = importlib.import_module(f"tests.remote.{path.stem}")
        for _, function in inspect.getmembers(module, inspect.iscoroutinefunction):
            for mark in getattr(function, "pytestmark", ()):
                if mark.name == "parametrize" and mark.args[0] == "how":
                    numbers |= {int(str(param.id).partition(" ")[0]) for param in mark.args[1]}
    assert numbers == set(CASES) == set(range(1, 15))
