"""The rules of the house: what imports what, how long, how documented, and what is public."""

from __future__ import annotations

import ast
import asyncio
import importlib.resources
import inspect
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import aioshm
from aioshm import errors
from tests.helpers import ROOT

PACKAGE = ROOT / "aioshm"
LONGEST = 400
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS_AND_SOCKETS = {"asyncio", "select", "selectors", "socket", "socketserver", "uvloop", "zmq"}

# What users rely on, in the order of the alphabet; a name is added with the design, not here.
PUBLIC = [
    "AdmissionRefused",
    "AioshmError",
    "Backoff",
    "Codec",
    "DecodeError",
    "EncodeError",
    "Evicted",
    "ForkedQueue",
    "Gap",
    "Handle",
    "MessageQueue",
    "MessageTooLarge",
    "PeerDied",
    "PickleCodec",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "Reader",
    "ReaderDied",
    "SegmentError",
    "Writer",
    "WriterDied",
    "WrongEnd",
    "fence",
    "fence_implementation",
    "ring_implementation",
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {module_name(path): ast.parse(path.read_text()) for path in FILES}


def drawn_floors() -> dict[str, float]:
    """Read the drawing in aioshm's docstring: file or folder to floor.

    What is drawn as over something else on the same floor is half a floor higher.
    """
    floors: dict[str, float] = {}
    for line in (aioshm.__doc__ or "").splitlines():
        if drawn := re.match(r"\s+(\d)\s+((?:(?:\w+(?:\.py|/)|over)\s+)+)", line):
            upper, _, lower = drawn[2].rpartition("over")
            for names, extra in ((upper, 0.5), (lower, 0.0)):
                for name in re.findall(r"\w+(?=\.py|/)", names):
                    floors[f"aioshm.{name}"] = int(drawn[1]) + extra
    return floors


FLOORS = drawn_floors()


def unit_of(module: str) -> str:
    """The file or folder of the drawing that a module belongs to."""
    if module == "aioshm.__main__":
        return "aioshm.cli"  # its door for `python -m aioshm`
    return ".".join(module.split(".")[:2])


def imports_of(tree: ast.Module, module: str) -> Iterator[tuple[str, int]]:
    """Every module imported anywhere in a module, functions included, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: a relative import"
            assert node.module
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else node.module, node.lineno


IMPORTS = {module: sorted(set(imports_of(tree, module))) for module, tree in MODULES.items()}


def test_the_drawing_shows_every_file_and_nothing_else() -> None:
    assert {unit_of(module) for module in MODULES} - {"aioshm"} == set(FLOORS)
    assert FLOORS["aioshm.errors"] == min(FLOORS.values()) == 0
    assert FLOORS["aioshm.cli"] == max(FLOORS.values()) == 5
    assert FLOORS["aioshm.queue"] > FLOORS["aioshm.ends"] > FLOORS["aioshm.shm"]


def test_a_file_imports_only_from_the_floors_below() -> None:
    floors = {**FLOORS, "aioshm": FLOORS["aioshm.queue"] + 0.25}  # the public names
    wrong = [
        f"{module}, line {line}, imports {imported}"
        for module, found in IMPORTS.items()
        for imported, line in found
        if imported.partition(".")[0] == "aioshm"
        and unit_of(imported) != unit_of(module)
        and floors[unit_of(imported)] >= floors[unit_of(module)]
    ]
    assert not wrong


def test_the_engine_knows_neither_loops_nor_sockets() -> None:
    wrong = [
        f"{module}, line {line}, imports {imported}"
        for module, found in IMPORTS.items()
        for imported, line in found
        if unit_of(module) == "aioshm.shm" and imported.partition(".")[0] in LOOPS_AND_SOCKETS
    ]
    assert not wrong


def test_no_imports_go_in_a_circle() -> None:
    graph = {module: {name for name, _ in found} for module, found in IMPORTS.items()}
    while leaves := {module for module, needs in graph.items() if not needs & set(graph)}:
        graph = {module: needs for module, needs in graph.items() if module not in leaves}
    assert not graph, f"a circle goes through some of {sorted(graph)}"


def test_no_file_is_longer_than_400_lines() -> None:
    sources = itertools.chain(FILES, PACKAGE.rglob("*.[ch]"), ROOT.glob("tests/c/*"))
    lengths = {path: len(path.read_text().splitlines()) for path in sources}
    assert not [f"{path}: {length}" for path, length in lengths.items() if length > LONGEST]


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Find what is public and has no docstring: module, classes, functions, methods."""
    if not ast.get_docstring(tree):
        yield "the module itself"
    for node in tree.body:
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
            for item in (node, *(node.body if isinstance(node, ast.ClassDef) else ())):
                if isinstance(item, DEFINITIONS) and not item.name.startswith("_"):
                    # A property's setter has none of its own.
                    setter = any(isinstance(by, ast.Attribute) for by in item.decorator_list)
                    if not setter and not ast.get_docstring(item):
                        yield f"line {item.lineno}: {item.name}"


def test_everything_public_has_a_docstring() -> None:
    wrong = {module: list(undocumented(tree)) for module, tree in MODULES.items()}
    assert not {module: items for module, items in wrong.items() if items}


def test_the_public_names_are_those_of_the_design() -> None:
    assert aioshm.__all__ == PUBLIC
    assert all(hasattr(aioshm, name) for name in PUBLIC)


def drawn_errors() -> Iterator[tuple[str, str, str]]:
    """Read the tree in errors' docstring: name, parent, and the remark beside it."""
    parents = {-1: "Exception"}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(
            r"    ((?:│   |    )*(?:[├└]── )?)(\w+(?:, \w+)*)(?:\s{2,}(.*))?$", line
        ):
            depth = len(found[1]) // 4
            if depth == 0 and found[2] != "AioshmError":
                continue
            for name in found[2].split(", "):
                yield name, parents[depth - 1], found[3] or ""
            parents[depth] = name


def test_the_errors_are_those_of_the_tree() -> None:
    tree = list(drawn_errors())
    public = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and not name.startswith("_")
    }
    assert len(tree) == len(public)
    assert {name for name, _, _ in tree} == public
    for name, parent, remark in tree:
        error: type[BaseException] = getattr(errors, name)
        assert error.__bases__[0].__name__ == parent
        for twin in re.findall(r"also asyncio\.(\w+)\)", remark):
            assert issubclass(error, getattr(asyncio, twin))
    assert public < set(aioshm.__all__)


def test_py_typed_is_shipped() -> None:
    assert importlib.resources.files(aioshm).joinpath("py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["aioshm"]


def test_the_changelog_begins_with_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", project["version"]]


def test_nothing_is_put_off_to_later() -> None:
    put_off = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    folders = (PACKAGE, ROOT / "tests", ROOT / "examples")
    sources = itertools.chain.from_iterable(folder.rglob("*.py") for folder in folders)
    for path in [*sources, *ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / ".ci" / "run"]:
        assert not put_off.search(path.read_text()), path
