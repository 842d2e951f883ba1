"""Which aioshm this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    """The installed version; "unknown" where the package runs without being installed."""
    try:
        return installed("aioshm")
    except PackageNotFoundError:
        return "unknown"
