"""Figures out of many values, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence

_FEW = 4


def percentile(sorted_values: Sequence[int], percent: float) -> int:
    """The value that `percent` per cent of them do not exceed."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * percent / 100))]


def listed(values: Sequence[float], form: str) -> str:
    """Write several figures in one field: ``0.4 / 0.5 / 0.4``, or many as ``0.4 to 0.5``."""
    if len(values) > _FEW:
        return f"{min(values):{form}} to {max(values):{form}}"
    return " / ".join(format(value, form) for value in values)
