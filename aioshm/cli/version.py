"""Which aioshm this is, and which versions of others there are."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from importlib.util import find_spec


def version() -> str:
    """The installed version; "unknown" where the package runs without being installed."""
    return _version_of("aioshm")


def version_of(module: str, distribution: str) -> str | None:
    """The version of another distribution; None where its module is not there."""
    try:
        there = find_spec(module) is not None
    except ModuleNotFoundError:
        there = False
    return _version_of(distribution) if there else None


def _version_of(distribution: str) -> str:
    try:
        return installed(distribution)
    except PackageNotFoundError:
        return "unknown"
