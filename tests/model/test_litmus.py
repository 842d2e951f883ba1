"""The checker checked: what each mode allows and forbids is what the literature says.

Each row names one outcome of a test and the modes that allow it; all other modes forbid
it. Where the weak mode allows more than ARM64 does, the row says so.
"""

from __future__ import annotations

import pytest

from tests.model.litmus import outcomes
from tests.model.scenario import MODES

MP, MP_READ = "x=1; y=1", "a=y; b=x"
SB = ("x=1; a=y", "y=1; b=x")
IRIW = ("x=1", "y=1", "a=x; b=y", "c=y; d=x")

# threads, an outcome, the modes that allow it
MESSAGE_PASSING = [
    ((MP, MP_READ), "a=1 b=0", "weak"),
    (("x=1; y=1 rel", MP_READ), "a=1 b=0", "weak"),
    ((MP, "a=y acq; b=x"), "a=1 b=0", "weak"),
    (("x=1; y=1 rel", "a=y acq; b=x"), "a=1 b=0", ""),
    (("x=1; y=1 rel", "a=y; fence_loads; b=x"), "a=1 b=0", ""),
    (("x=1; fence; y=1", "a=y acq; b=x"), "a=1 b=0", ""),
    (("x=1; fence; y=1", "a=y; fence_loads; b=x"), "a=1 b=0", ""),
    (("x=1; fence; y=1", "a=y; fence; b=x"), "a=1 b=0", ""),
    (("x=1; fence; y=1", MP_READ), "a=1 b=0", "weak"),
    ((MP, "a=y; fence; b=x"), "a=1 b=0", "weak"),
    # A fence for loads orders no stores.
    (("x=1; fence_loads; y=1", "a=y acq; b=x"), "a=1 b=0", "weak"),
    # A later relaxed store is not covered by the release store before it.
    (("x=1; y=1 rel; z=1", "a=z acq; b=x"), "a=1 b=0", "weak"),
    # The seqlock of EVICT: the reader copies x, then looks whether y says it was overwritten.
    (("y=1; fence; x=1", "a=x; fence_loads; b=y"), "a=1 b=0", ""),
    (("y=1 rel; x=1", "a=x; fence_loads; b=y"), "a=1 b=0", "weak"),
    (("y=1; fence; x=1", "a=x; b=y"), "a=1 b=0", "weak"),
]
STORE_BUFFERING = [
    (SB, "a=0 b=0", "tso weak"),
    (("x=1 rel; a=y acq", "y=1 rel; b=x acq"), "a=0 b=0", "tso weak"),
    (("x=1; fence; a=y", "y=1; b=x"), "a=0 b=0", "tso weak"),
    (("x=1; fence; a=y", "y=1; fence; b=x"), "a=0 b=0", ""),
    (("x=1; fence_loads; a=y", "y=1; fence_loads; b=x"), "a=0 b=0", "tso weak"),
    # Three in a ring: the view of all fences is one.
    (("x=1; fence; a=y", "y=1; fence; b=z", "z=1; fence; c=x"), "a=0 b=0 c=0", ""),
    # A process sees its own store before others do.
    (("x=1; a=x; b=y", "y=1; c=y; d=x"), "a=1 b=0 c=1 d=0", "tso weak"),
]
LOAD_BUFFERING = [
    # The one thing that ARM64 allows and no mode does; memory.py says why that is enough.
    (("a=x; y=1", "b=y; x=1"), "a=1 b=1", ""),
    (("a=x; y=1 rel", "b=y acq; x=1"), "a=1 b=1", ""),
]
COHERENCE = [
    (("x=1", "a=x; b=x"), "a=1 b=0", ""),
    (("x=1; x=2", "a=x; b=x"), "a=2 b=1", ""),
    (("x=1; a=x",), "a=0", ""),
    (("a=x; x=1",), "a=1", ""),
    (("x=1; a=x", "x=2"), "a=2", "sc tso weak"),
    # All see the two stores in one order.
    (("x=1", "x=2", "a=x; b=x", "c=x; d=x"), "a=1 b=2 c=2 d=1", ""),
    # Each store before the other one.
    (("x=1; a=x", "x=2; b=x"), "a=2 b=1", ""),
]
STORE_ORDER = [
    # 2+2W: of each process the first store comes last, so the one that is executed first
    # wipes out one that is executed later.
    (("x=1; y=2; a=y", "y=1; x=2; b=x"), "a=1 b=1", "weak"),
    (("x=1; y=2 rel; a=y", "y=1; x=2 rel; b=x"), "a=1 b=1", "weak"),
    (("x=1; fence; y=2; a=y", "y=1; fence; x=2; b=x"), "a=1 b=1", ""),
]
MANY = [
    # IRIW and WRC: ARM64 forbids those with acquire, POWER allows them.
    (IRIW, "a=1 b=0 c=1 d=0", "weak"),
    (("x=1 rel", "y=1 rel", "a=x acq; b=y acq", "c=y acq; d=x acq"), "a=1 b=0 c=1 d=0", "weak"),
    (("x=1", "y=1", "a=x; fence; b=y", "c=y; fence; d=x"), "a=1 b=0 c=1 d=0", ""),
    (("x=1", "a=x; y=1", "b=y; c=x"), "a=1 b=1 c=0", "weak"),
    (("x=1", "a=x; y=1 rel", "b=y acq; c=x"), "a=1 b=1 c=0", ""),
    (("x=1 rel", "a=x; y=1 rel", "b=y acq; c=x"), "a=1 b=1 c=0", ""),
    (("x=1", "a=x; fence; y=1", "b=y; fence; c=x"), "a=1 b=1 c=0", ""),
    # ISA2: a release is handed on from process to process.
    (("x=1; y=1 rel", "a=y acq; z=1 rel", "b=z acq; c=x"), "a=1 b=1 c=0", ""),
    (("x=1; y=1 rel", "a=y; z=1 rel", "b=z acq; c=x"), "a=1 b=1 c=0", "weak"),
]
ROWS = MESSAGE_PASSING + STORE_BUFFERING + LOAD_BUFFERING + COHERENCE + STORE_ORDER + MANY


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("threads", "outcome", "allowed"), ROWS)
def test_allows_what_the_machine_allows(
    threads: tuple[str, ...], outcome: str, allowed: str, mode: str
) -> None:
    assert (outcome in outcomes(mode, threads)) == (mode in allowed.split())


@pytest.mark.parametrize("mode", MODES)
def test_taking_lone_steps_at_once_loses_no_outcome(mode: str) -> None:
    for threads, _, _ in ROWS:
        assert outcomes(mode, threads) == outcomes(mode, threads, reduced=False), threads


def test_each_mode_allows_all_that_the_stronger_ones_allow() -> None:
    for threads, _, _ in ROWS:
        strong, tso, weak = (outcomes(mode, threads) for mode in ("sc", "tso", "weak"))
        assert strong <= tso <= weak, threads
