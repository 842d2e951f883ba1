"""The C ring runs where it was built, the Python ring elsewhere, and either may be forced."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import aioshm
from aioshm.shm import ring
from tests.helpers import ROOT
from tests.rings import MODULES

SAY = "import aioshm; print(aioshm.ring_implementation(), aioshm.fence_implementation())"
UNBUILT = "import sys; sys.modules['aioshm.shm._ring'] = None; "


def run(code: str, wanted: str | None) -> tuple[str, str]:
    """Run code in a fresh interpreter with a ring wanted; give what it printed and its error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("AIOSHM_RING", None)
    if wanted is not None:
        environment["AIOSHM_RING"] = wanted
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("wanted", [None, ""], ids=["unset", "empty"])
def test_the_c_ring_runs_where_it_was_built(wanted: str | None) -> None:
    said, _ = run(SAY, wanted)
    assert said.split()[0] == ("c" if "c" in MODULES else "python")
    assert (said.split()[1] == "c11") == ("c" in MODULES)


def test_without_it_the_python_ring_runs() -> None:
    said, errors = run(UNBUILT + SAY, None)
    assert said.split()[0] == "python"
    assert said.split()[1] in ("lock", "libatomic")
    assert errors == ""


def test_the_python_ring_may_be_forced() -> None:
    said, _ = run(SAY, "python")
    assert said.split()[0] == "python"
    assert said.split()[1] in ("lock", "libatomic")


def test_forcing_the_c_ring_where_it_was_not_built_says_what_to_do() -> None:
    said, errors = run(UNBUILT + SAY, "c")
    assert said == ""
    assert "ImportError: AIOSHM_RING=c, and aioshm's C ring is not there" in errors
    assert "install a C compiler" in errors


def test_forcing_the_c_ring_where_it_was_built_gives_it() -> None:
    said, errors = run(SAY, "c")
    assert said == ("c c11" if "c" in MODULES else "")
    assert ("ImportError" in errors) == ("c" not in MODULES)


def test_a_ring_that_nobody_wrote_is_refused() -> None:
    _, errors = run(SAY, "rust")
    assert "ImportError: AIOSHM_RING=rust where 'c' or 'python' was expected" in errors


def test_a_queue_runs_on_the_ring_that_is_named() -> None:
    writer, reader = MODULES[aioshm.ring_implementation()]
    assert ring.RingWriter is writer.RingWriter
    assert ring.RingReader is reader.RingReader


def test_every_ring_has_the_same_public_names() -> None:
    def names(side: type) -> set[str]:
        return {name for name in dir(side) if not name.startswith("_")}

    with_instances = {"position", "number", "owed"}
    for writer, reader in MODULES.values():
        for side, reference in (
            (writer.RingWriter, MODULES["python"][0].RingWriter),
            (reader.RingReader, MODULES["python"][1].RingReader),
        ):
            assert names(side) | with_instances == names(reference) | with_instances
