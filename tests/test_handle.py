"""A handle comes through string and pickle whole, keeps its secrets, and is never half read."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioshm import AdmissionRefused, Handle

HANDLE = Handle(
    name="engine-1",
    path="/run/user/1000/aioshm/engine-1-0123456789abcdef",
    token="5e" * 32,
    ranks=(0, 1, 5),
    pid=4711,
    codec="c0dec0" * 9,
)
TEXT = HANDLE.to_string()
REMOTE = replace(
    HANDLE,
    ranks=(0, 1, 5, 6),
    remote_ranks=(5, 6),
    address="tcp://[fe80::1%eth0]:5555",
    server_key="s" * 40,
    client_public="p" * 40,
    client_secret="'\"\\<{&%}>".ljust(40, "c"),  # Z85 has most of these
    peer_timeout=0.25,
)


@dataclass
class Stale:
    """Something that unpickles the way a handle with this text does."""

    text: str

    def __reduce__(self) -> tuple[Callable[[str], Handle], tuple[str]]:
        return Handle.from_string, (self.text,)


def sealed(body: bytes) -> str:
    """Make a string of this version with a right checksum over any body."""
    packed = base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:8] + body).decode()
    return f"{TEXT.partition('.')[0]}.{packed}"


def test_a_string_brings_back_the_same_handle() -> None:
    assert Handle.from_string(TEXT) == HANDLE


def test_the_string_survives_an_environment_variable() -> None:
    assert TEXT.isascii()
    assert TEXT.isprintable()
    assert not set(TEXT) & set(" '\"\\$`")


def test_white_space_around_the_string_does_no_harm() -> None:
    assert Handle.from_string(f"  {TEXT}\n") == HANDLE


def test_pickle_brings_back_the_same_handle() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(HANDLE, protocol)) == HANDLE


def test_a_copy_is_the_same_handle() -> None:
    assert copy.deepcopy(HANDLE) == HANDLE


def test_names_and_paths_need_not_be_ascii() -> None:
    handle = Handle("né", "/tmp/ключ/\udcff", "00" * 32, (0,), 1, "80")
    assert Handle.from_string(handle.to_string()) == handle


def test_ranks_come_back_as_a_tuple() -> None:
    assert Handle.from_string(TEXT).ranks == (0, 1, 5)


def test_what_remote_readers_need_comes_back_too() -> None:
    for back in (Handle.from_string(REMOTE.to_string()), pickle.loads(pickle.dumps(REMOTE))):
        assert back == REMOTE
        assert back.remote_ranks == (5, 6)
        assert back.peer_timeout == 0.25


def test_without_remote_readers_there_is_nothing_of_theirs() -> None:
    assert HANDLE.remote_ranks == ()
    assert HANDLE.address == HANDLE.server_key == HANDLE.client_public == HANDLE.client_secret == ""


def test_the_keys_are_not_shown_and_the_address_is() -> None:
    for shown in (repr(REMOTE), str(REMOTE), f"{REMOTE}"):
        for secret in (REMOTE.token, REMOTE.server_key, REMOTE.client_public, REMOTE.client_secret):
            assert secret not in shown
            assert repr(secret) not in shown
        assert REMOTE.address in shown
        assert "(5, 6)" in shown


def test_a_string_with_keys_survives_an_environment_variable() -> None:
    text = REMOTE.to_string()
    assert text.isascii()
    assert not set(text) & set(" '\"\\$`")


def test_a_handle_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        HANDLE.pid = 1  # type: ignore[misc]


def test_token_and_codec_are_not_shown() -> None:
    for shown in (repr(HANDLE), str(HANDLE), f"{HANDLE}"):
        assert HANDLE.token not in shown
        assert HANDLE.codec not in shown
        assert "engine-1" in shown


def test_a_handle_cut_anywhere_is_no_handle() -> None:
    for length in range(len(TEXT)):
        with pytest.raises(ValueError, match=r"not a(n| whole) aioshm handle"):
            Handle.from_string(TEXT[:length])


def test_a_handle_with_one_character_changed_is_never_another_handle() -> None:
    for at, was in enumerate(TEXT):
        for other in {"A", "9", ".", "=", "!", "é", chr(ord(was) ^ 1)} - {was}:
            try:
                read = Handle.from_string(TEXT[:at] + other + TEXT[at + 1 :])
            except (ValueError, AdmissionRefused):
                continue
            assert read == HANDLE  # bits that base64 leaves unused


def test_nearly_every_changed_character_is_noticed() -> None:
    noticed = 0
    for at in range(len(TEXT)):
        try:
            Handle.from_string(TEXT[:at] + "~" + TEXT[at + 1 :])
        except (ValueError, AdmissionRefused):
            noticed += 1
    assert noticed == len(TEXT)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_refused_as_no_handle(text: str) -> None:
    with pytest.raises(ValueError, match="not an aioshm handle"):
        Handle.from_string(text)


@settings(deadline=None)
@given(st.text())
def test_any_text_behind_the_prefix_is_refused_as_not_whole(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole aioshm handle"):
        Handle.from_string(f"{TEXT.partition('.')[0]}.{text}")


def _without(name: str) -> dict[str, Any]:
    return {f.name: getattr(HANDLE, f.name) for f in fields(Handle) if f.name != name}


def test_a_right_checksum_over_anything_else_is_refused() -> None:
    for body in (
        *(b"", b"\xff\xfe", b"[]", b"null", b'"handle"', b"{}", b'{"ranks":7}'),
        *(json.dumps(_without(f.name)).encode() for f in fields(Handle)),
        json.dumps({**_without(""), "more": 1}).encode(),
    ):
        with pytest.raises(ValueError, match="not a whole aioshm handle"):
            Handle.from_string(sealed(body))


def test_a_handle_of_another_version_says_so() -> None:
    for version in ("0", "1", "17"):
        with pytest.raises(AdmissionRefused, match=f"version {version} "):
            Handle.from_string(f"aioshm{version}.{TEXT.partition('.')[2]}")


def test_a_pickle_of_another_version_says_so_too() -> None:
    blob = pickle.dumps(Stale(f"aioshm1.{TEXT.partition('.')[2]}"))
    with pytest.raises(AdmissionRefused, match="same aioshm at both ends"):
        pickle.loads(blob)


def test_what_is_no_text_is_told_to_be_none() -> None:
    for thing in (None, TEXT.encode(), HANDLE):
        with pytest.raises(TypeError, match="is the environment variable set"):
            Handle.from_string(thing)  # type: ignore[arg-type]


def test_a_version_of_thousands_of_digits_is_no_version() -> None:
    with pytest.raises(ValueError, match="not an aioshm handle"):
        Handle.from_string(f"aioshm{'9' * 5000}.x")


def test_no_error_shows_the_token() -> None:
    packed = TEXT.partition(".")[2]
    for broken in (packed, TEXT[:-1], TEXT[1:], f"aioshm1.{packed}", TEXT.replace(".", "")):
        with pytest.raises((ValueError, AdmissionRefused)) as caught:
            Handle.from_string(broken)
        shown = str(caught.value)
        assert HANDLE.token not in shown
        assert packed[:64] not in shown
