"""Which ring runs in this process: the one in C where it was built, else the one in Python.

The extension is optional: an install without a C compiler leaves it out and works. Which
one runs is the same to everything above `shm`, and to the other end of a queue.
``AIOSHM_RING=python`` or ``AIOSHM_RING=c`` in the environment forces one at import.
"""

from __future__ import annotations

import os
from types import ModuleType

_VARIABLE = "AIOSHM_RING"


def _choose() -> ModuleType | None:
    wanted = os.environ.get(_VARIABLE) or None
    if wanted not in (None, "c", "python"):
        raise ImportError(f"{_VARIABLE}={wanted} where 'c' or 'python' was expected")
    if wanted == "python":
        return None
    try:
        from aioshm.shm import _ring
    except ImportError as error:
        if wanted is None:
            return None
        raise ImportError(
            f"{_VARIABLE}=c, and aioshm's C ring is not there ({error}): install a C compiler "
            f"(Debian: apt-get install gcc libc6-dev python3-dev) and aioshm again, or unset "
            f"{_VARIABLE}"
        ) from error
    return _ring


extension: ModuleType | None = _choose()
"""The C ring's module; None where the Python ring runs."""


def ring_implementation() -> str:
    """Say which ring runs in this process: ``"c"`` or ``"python"``."""
    return "python" if extension is None else "c"
