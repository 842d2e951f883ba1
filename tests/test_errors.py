"""The errors are the tree that errors.py draws, and each of them travels between processes."""

from __future__ import annotations

import asyncio
import copy
import inspect
import itertools
import pickle
import re
import sys

import pytest

from aioshm import errors
from aioshm.errors import (
    AioshmError,
    MessageTooLarge,
    PeerDied,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    ReaderDied,
    WriterDied,
)

BRANCH = re.compile(r"(?P<rails>(?:│   |    )*)(?:[├└]── )?(?P<names>[A-Z]\w+(?:, [A-Z]\w+)*)")


def drawn() -> dict[str, str]:
    """Read the tree at the top of errors.py: each name and its parent's."""
    parents: dict[str, str] = {}
    branch: list[str] = []
    _, _, tree = (errors.__doc__ or "").partition("::\n\n")
    for line in tree.partition("\n\n")[0].splitlines():
        match = BRANCH.match(line[4:])
        if match is None or line[4:].startswith("│    "):
            continue  # the second line of a remark
        depth = len(match["rails"]) // 4 + (1 if "── " in line else 0)
        names = match["names"].split(", ")
        for name in names:
            parents[name] = branch[depth - 1] if depth else "Exception"
        branch[depth:] = [names[-1]]
    return parents


def defined() -> dict[str, type[AioshmError]]:
    """Give every error class of the module by its name."""
    return {
        name: each
        for name, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, AioshmError)
    }


EVERY = [
    *(each("what happened") for each in defined().values()),
    PeerDied("gone", pid=7),
    WriterDied("gone", pid=8),
    ReaderDied("gone", rank=3, pid=9),
    MessageTooLarge("big", size=100, limit=10),
]


def test_the_drawing_names_every_class_and_no_other() -> None:
    assert set(drawn()) == set(defined())


def test_each_class_hangs_where_it_is_drawn() -> None:
    hangs = {name: each.__bases__[0].__name__ for name, each in defined().items()}
    assert hangs == drawn()


def test_full_and_empty_are_asyncios_errors_too() -> None:
    assert issubclass(QueueFull, asyncio.QueueFull)
    assert issubclass(QueueEmpty, asyncio.QueueEmpty)


def test_shut_down_is_asyncios_error_where_asyncio_has_one() -> None:
    theirs = getattr(asyncio, "QueueShutDown", None)
    assert (theirs is not None) == (sys.version_info >= (3, 13))
    assert theirs is None or issubclass(QueueShutDown, theirs)


def test_no_error_passes_for_a_timeout() -> None:
    assert not any(issubclass(each, TimeoutError) for each in defined().values())


def test_every_error_comes_through_pickle_whole() -> None:
    for error, protocol in itertools.product(EVERY, range(pickle.HIGHEST_PROTOCOL + 1)):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is type(error)
        assert back.args == error.args
        assert str(back) == str(error)
        assert vars(back) == vars(error)


def test_every_error_can_be_copied() -> None:
    for error in EVERY:
        assert vars(copy.copy(error)) == vars(error)


def test_a_dead_reader_is_named_by_rank_and_pid() -> None:
    error = pickle.loads(pickle.dumps(ReaderDied("gone", rank=3, pid=9)))
    assert (error.rank, error.pid) == (3, 9)


def test_a_message_too_large_says_how_large_and_what_fits() -> None:
    error = pickle.loads(pickle.dumps(MessageTooLarge("big", size=100, limit=10)))
    assert (error.size, error.limit) == (100, 10)


def test_what_a_program_looks_at_is_given_by_keyword_only() -> None:
    with pytest.raises(TypeError):
        ReaderDied("gone", 3)  # type: ignore[call-arg]
