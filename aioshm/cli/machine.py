"""What figures depend on, apart from the options: the machine and what runs on it."""

from __future__ import annotations

import os
import platform
from typing import Any


def about() -> dict[str, Any]:
    """Python, kernel and processor."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
    }
