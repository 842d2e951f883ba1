"""The address of a queue: what a reader must hold to get in.

A handle is a secret: it holds the token and the keys that the writer asks for. It travels
to the readers by whatever way starts them: pickled in the arguments of a process, or as a
string in an environment variable. `repr` and the logs hide the secrets.

As a string it is ``aioshm2.`` and base64 of a checksum and JSON: the checksum tells
a truncated one from one of another version.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields

from aioshm.errors import AdmissionRefused

HANDLE_VERSION = 2
_PREFIX = "aioshm"
_DIGEST = 8


@dataclass(frozen=True)
class Handle:
    """The address of a queue, made by `Writer.export_handle`.

    Attributes:
        name: the queue's name, for logs and errors.
        path: the Unix socket where the writer admits readers on its machine; empty if there
            are to be none.
        token: the secret that gets a reader in, in hexadecimal.
        ranks: the ranks there are.
        pid: the writer's process id, for errors; 0 where it means nothing.
        codec: the writer's codec, pickled, in hexadecimal.
        remote_ranks: those of the ranks whose readers connect over TCP.
        address: where to; empty if there are none.
        server_key, client_public, client_secret: CURVE keys, as Z85 text.
        peer_timeout: seconds for which either end of such a connection may be away.
    """

    name: str
    path: str
    token: str = field(repr=False)
    ranks: tuple[int, ...]
    pid: int
    codec: str = field(repr=False)
    remote_ranks: tuple[int, ...] = ()
    address: str = ""
    server_key: str = field(default="", repr=False)
    client_public: str = field(default="", repr=False)
    client_secret: str = field(default="", repr=False)
    peer_timeout: float = 5.0

    def to_string(self) -> str:
        """Give the handle as printable ASCII, for an environment variable."""
        body = json.dumps(asdict(self), separators=(",", ":")).encode()
        packed = base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:_DIGEST] + body)
        return f"{_PREFIX}{HANDLE_VERSION}.{packed.decode()}"

    @classmethod
    def from_string(cls, text: str) -> Handle:
        """Read a handle that `to_string` wrote.

        Raises:
            ValueError: the text is no handle, or a part of one.
            TypeError: it is no text.
            AdmissionRefused: it was written by another version of aioshm.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"{type(text).__name__} where the string of a handle was expected; is the "
                "environment variable set?"
            )
        head, dot, packed = text.strip().partition(".")
        version = head.removeprefix(_PREFIX)
        if not dot or head == version or not re.fullmatch("[0-9]{1,9}", version):
            raise ValueError(
                f"not an aioshm handle: {text[:24]!r}… where '{_PREFIX}{HANDLE_VERSION}.…' was "
                "expected; pass on what Handle.to_string() gave"
            )
        if int(version) != HANDLE_VERSION:
            raise AdmissionRefused(
                f"the handle is of version {version} where this aioshm reads {HANDLE_VERSION}; "
                "install the same aioshm at both ends"
            )
        try:
            blob = base64.b64decode(packed, altchars=b"-_", validate=True)
            digest, body = blob[:_DIGEST], blob[_DIGEST:]
            if hashlib.sha256(body).digest()[:_DIGEST] != digest:
                raise ValueError("its checksum does not match")
            said = json.loads(body)
            if not isinstance(said, dict) or said.keys() != {one.name for one in fields(cls)}:
                raise ValueError("it says something else than a handle does")
            ranks = {what: tuple(said[what]) for what in ("ranks", "remote_ranks")}
            return cls(**{**said, **ranks})
        except (binascii.Error, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"not a whole aioshm handle ({len(text)} characters): {error}; it was cut or "
                "changed on its way"
            ) from None

    def __reduce__(self) -> tuple[Callable[[str], Handle], tuple[str]]:
        # Through the string, so that a handle of another version says so when unpickled.
        return Handle.from_string, (self.to_string(),)
