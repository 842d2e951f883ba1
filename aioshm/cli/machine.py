"""What figures depend on, apart from the options: the machine and what runs on it."""

from __future__ import annotations

import os
import platform
from typing import Any


def _processor() -> str:
    """The model, as the kernel names it; not every machine has a name."""
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def about() -> dict[str, Any]:
    """Python, kernel and processor."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "processor": _processor(),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
    }
