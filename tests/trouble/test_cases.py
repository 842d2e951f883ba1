"""Every number of the list has its test, and just one."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from pathlib import Path

from tests.trouble.cases import CASES


def test_every_case_has_one_test() -> None:
    numbers: Counter[int] = Counter()
    for path in Path(__file__).parent.glob("test_*.py"):
        module = importlib.import_module(f"tests.trouble.{path.stem}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and function.__module__ == module.__name__:
                ids = [
                    str(param.id)
                    for mark in getattr(function, "pytestmark", ())
                    if mark.name == "parametrize"
                    for param in mark.args[1]
                ]
                numbers.update({int(text.partition(" ")[0]) for text in ids})
                assert all(text.startswith(tuple(_begins())) for text in ids)
    assert numbers == Counter(range(1, 31))


def _begins() -> list[str]:
    return [f"{number} {words}" for number, words in CASES.items()]
