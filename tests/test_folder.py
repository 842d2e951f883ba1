"""Sockets live where only their user reaches them; those of dead writers go, no other does."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aioshm.links.folder import address, folder, listen, sweep


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have a temporary directory of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def fallback(temporary: Path) -> Path:
    """Name the folder under the temporary directory."""
    return temporary / f"aioshm-{os.geteuid()}"


@pytest.fixture
def open_socket() -> Iterator[Callable[[], socket.socket]]:
    """Give a function that makes sockets, which are closed at the end."""
    with ExitStack() as stack:

        def make() -> socket.socket:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(made)
            made.setblocking(False)
            return made

        yield make


Open = Callable[[], socket.socket]


def bind(path: Path, sock: socket.socket) -> socket.socket:
    """Bind a socket to a path of any length."""
    with address(str(path)) as short:
        sock.bind(short)
    return sock


def mode(path: Path) -> int:
    """Give the permission bits of a path."""
    return stat.S_IMODE(path.stat().st_mode)


# -- which folder --------------------------------------------------------------------


def test_the_folder_is_in_the_runtime_directory(runtime_folder: Path) -> None:
    assert folder() == runtime_folder / "aioshm"
    assert mode(folder()) == 0o700


def test_the_folder_is_found_again(runtime_folder: Path) -> None:
    assert folder() == folder()


@pytest.mark.parametrize("value", [None, "", "relative/path", "/no/such/directory"])
def test_without_a_runtime_directory_it_is_under_the_temporary_one(
    value: str | None, fallback: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("XDG_RUNTIME_DIR")
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert folder() == fallback
    assert mode(fallback) == 0o700


def test_a_file_is_no_runtime_directory(
    fallback: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    assert folder() == fallback


def test_a_runtime_directory_that_is_not_writable_is_not_used(
    fallback: Path, runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writable = os.access  # which says yes to root, whatever the mode

    def not_there(path: str, mode: int) -> bool:
        return writable(path, mode) and not (mode & os.W_OK and path == str(runtime_folder))

    monkeypatch.setattr(os, "access", not_there)
    assert folder() == fallback


def test_a_runtime_directory_of_another_user_is_not_used(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(PermissionError, match=f"aioshm-{me + 1} is .*owner {me}"):
        folder()  # it made one in the temporary directory, as a user who is not us


@pytest.mark.parametrize("others", [0o701, 0o710, 0o704, 0o755, 0o777])
def test_a_folder_that_others_may_enter_is_refused(others: int, runtime_folder: Path) -> None:
    folder().chmod(others)
    with pytest.raises(PermissionError, match=f"mode {others:04o} where 0700.*chmod 700"):
        folder()
    assert mode(runtime_folder / "aioshm") == others


def test_a_folder_of_another_user_is_refused(
    fallback: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    fallback.mkdir(mode=0o700)
    me = os.geteuid()
    fallback.rename(fallback.with_name(f"aioshm-{me + 1}"))
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(PermissionError, match=f"not a directory of user {me + 1} .owner {me}"):
        folder()


def test_a_link_in_the_place_of_the_folder_is_refused(runtime_folder: Path, tmp_path: Path) -> None:
    (runtime_folder / "aioshm").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="not a directory"):
        folder()
    (runtime_folder / "aioshm").unlink()


def test_a_file_in_the_place_of_the_folder_is_refused(runtime_folder: Path) -> None:
    (runtime_folder / "aioshm").touch()
    with pytest.raises(PermissionError, match="not a directory"):
        folder()
    (runtime_folder / "aioshm").unlink()


# -- listening -----------------------------------------------------------------------


def test_a_listener_has_a_random_name_that_begins_with_the_queues(runtime_folder: Path) -> None:
    made = [listen("engine", 4) for _ in range(2)]
    paths = [Path(path) for _, path in made]
    assert len(set(paths)) == 2
    for (listener, _), path in zip(made, paths, strict=True):
        assert path.parent == runtime_folder / "aioshm"
        assert path.name.startswith("engine-")
        assert path.is_socket()
        listener.close()
        path.unlink()


def test_a_listener_that_has_its_name_can_be_reached(open_socket: Open) -> None:
    listener, path = listen("engine", 4)
    open_socket().connect(path)
    listener.accept()[0].close()
    assert not list(folder().glob(".new-*"))
    listener.close()
    os.unlink(path)


def test_a_listener_that_fails_leaves_no_file_and_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_rename(self: Path, target: Path) -> None:
        raise OSError("no")

    monkeypatch.setattr(Path, "rename", no_rename)
    with pytest.raises(OSError, match="no"):
        listen("engine", 4)
    assert list(folder().iterdir()) == []


# -- sweeping ------------------------------------------------------------------------


def test_the_socket_of_a_dead_writer_is_swept(tmp_path: Path, open_socket: Open) -> None:
    dead = tmp_path / "dead"
    bind(dead, open_socket()).close()
    sweep(tmp_path)
    assert not dead.exists()


def test_the_socket_of_a_living_writer_stays(tmp_path: Path, open_socket: Open) -> None:
    living = tmp_path / "living"
    bind(living, open_socket()).listen(4)
    sweep(tmp_path)
    assert living.is_socket()


def test_the_socket_of_a_living_writer_with_a_full_backlog_stays(
    tmp_path: Path, open_socket: Open
) -> None:
    living = tmp_path / "living"
    bind(living, open_socket()).listen(0)
    open_socket().connect(str(living))
    with pytest.raises(BlockingIOError):
        open_socket().connect(str(living))
    sweep(tmp_path)
    assert living.is_socket()


def test_a_socket_that_does_not_listen_yet_stays(tmp_path: Path, open_socket: Open) -> None:
    coming = tmp_path / ".new-coming"
    bind(coming, open_socket())
    sweep(tmp_path)
    assert coming.is_socket()


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "directory"}


def test_a_socket_of_another_kind_stays_while_it_lives(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        bind(tmp_path / "stream", stream).listen()
        sweep(tmp_path)
        assert (tmp_path / "stream").is_socket()


def test_a_new_listener_sweeps_first(open_socket: Open) -> None:
    dead = folder() / "dead"
    bind(dead, open_socket()).close()
    listener, path = listen("engine", 4)
    assert not dead.exists()
    listener.close()
    os.unlink(path)


def test_a_file_that_another_sweeper_took_first_is_no_error(
    tmp_path: Path, open_socket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind(tmp_path / "dead", open_socket()).close()
    real = Path.unlink

    def twice(self: Path, missing_ok: bool = False) -> None:
        real(self)
        real(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", twice)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- long paths ----------------------------------------------------------------------


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a runtime directory whose name is too long for a socket address."""
    path = tmp_path / ("d" * 100) / ("e" * 100)
    path.mkdir(parents=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


def test_a_path_too_long_for_an_address_can_be_listened_at_and_reached(
    deep: Path, open_socket: Open
) -> None:
    listener, path = listen("engine", 4)
    assert len(path) > 200
    with address(path) as short:
        assert len(short) <= 107
        open_socket().connect(short)
    listener.accept()[0].close()
    listener.close()
    assert Path(path).is_socket()


def test_dead_sockets_with_long_paths_are_swept_too(deep: Path, open_socket: Open) -> None:
    listener, path = listen("engine", 4)
    sweep(Path(path).parent)
    assert Path(path).is_socket()
    listener.close()
    sweep(Path(path).parent)
    assert not Path(path).exists()


def test_a_path_that_just_fits_is_used_as_it_is() -> None:
    for length, fits in ((107, True), (108, False)):
        path = "/".ljust(length, "x")
        with address(path) as short:
            assert (short == path) == fits


def test_umlauts_count_by_their_bytes() -> None:
    path = "/".ljust(100, "ü")
    with address(path) as short:
        assert short != path
        assert short.endswith("ü")
