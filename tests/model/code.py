"""The real code, loaded a second time over simulated memory, with or without changes.

Each module is compiled from its file and run with an ``import`` of its own, which hands
it simulated `ordering` functions and record headers, whatever name it gives them and
wherever it keeps them. So what is checked is the code as it is, and a mutant is the
code as it is but for the text that was changed.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import aioshm
from tests.model import simulated

ROOT = Path(aioshm.__file__).parent
OURS = (
    "aioshm.shm.record",
    "aioshm.shm.ring_writer",
    "aioshm.shm.ring_reader",
    "aioshm.waiting",
    "aioshm.ends.end",
    "aioshm.ends.reader",
    "aioshm.ends.admitting",
    "aioshm.ends.writer",
)
"""The modules that are loaded again, each after those that it imports from."""


def path_of(module: str) -> Path:
    """The file of a module of the package."""
    return ROOT.parent.joinpath(*module.split(".")).with_suffix(".py")


def source_of(module: str) -> str:
    """The text of a module of the package."""
    return path_of(module).read_text()


class Code:
    """One version of the code.

    Args:
        changed: module to source text, where it is not the one on disk.
    """

    def __init__(self, changed: Mapping[str, str] | None = None) -> None:
        self._modules: dict[str, ModuleType] = {
            "aioshm.shm.ordering": _like("aioshm.shm.ordering", simulated.ORDERING),
            "aioshm.shm.layout": _like("aioshm.shm.layout", {"HEADER": simulated.Header}),
        }
        changed = changed or {}
        assert set(changed) <= set(OURS), f"{set(changed)} is not among {OURS}"
        for name in OURS:
            self._load(name, changed.get(name))

    def __getitem__(self, name: str) -> Any:
        return self._modules[name]

    def _load(self, name: str, text: str | None) -> None:
        module = ModuleType(name)
        names = {**vars(builtins), "__import__": self._import}
        vars(module).update(__builtins__=names, __file__=str(path_of(name)))
        text = source_of(name) if text is None else text
        exec(compile(text, f"{name} (simulated)", "exec"), vars(module))
        if hasattr(module, "logger"):
            vars(module)["logger"] = simulated.Nothing()
        self._modules[name] = module

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if fromlist and name in self._modules:
            return self._modules[name]
        assert not (name.startswith("aioshm") and not fromlist), f"import {name} goes past us"
        importlib.import_module(name)
        return sys.modules[name] if fromlist else sys.modules[name.partition(".")[0]]


def _like(name: str, other: Mapping[str, object]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(vars(importlib.import_module(name)))
    missing = set(other) - set(vars(module))
    assert not missing, f"{name} has no {missing} any more"
    vars(module).update(other)
    return module
