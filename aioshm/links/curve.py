"""Who may connect over TCP: CURVE keys made for one queue, and the list of who is let in.

CURVE alone encrypts and proves to a reader that it talks to the writer, but admits
anybody (seen). So the writer has ZAP ask whether a client's key is the one that this
queue's handle carries. pyzmq's authenticator answers in a thread of its own, so that a
reader may connect again while the writer's loop is busy.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.z85 import Z85CHARS

_DOMAIN = "aioshm"
_KEY_LENGTH = 40


@dataclass(frozen=True)
class Keys:
    """What a reader needs to connect, each as Z85 text of 40 characters.

    Attributes:
        server: the writer's public key.
        public, secret: the pair that all readers of this queue share.

    Raises:
        ValueError: one of them is no key.
    """

    server: str
    public: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for key in (self.server, self.public, self.secret):
            if len(key) != _KEY_LENGTH or not set(key.encode()) <= set(Z85CHARS):
                raise ValueError(
                    f"a CURVE key of the handle has {len(key)} characters where {_KEY_LENGTH} of "
                    "Z85 were expected; pass on the handle as Writer.export_handle gave it"
                )

    def client_options(self) -> dict[int, int | bytes]:
        """The options of a socket that connects."""
        return {
            zmq.CURVE_SERVERKEY: self.server.encode(),
            zmq.CURVE_PUBLICKEY: self.public.encode(),
            zmq.CURVE_SECRETKEY: self.secret.encode(),
        }


def new_keys() -> tuple[Keys, bytes]:
    """Make the keys of a queue; returns the readers', and the writer's secret.

    Raises:
        OSError: this libzmq was built without CURVE.
    """
    if not zmq.has("curve"):
        raise OSError(
            "this pyzmq has no CURVE, without which readers on other machines are not let in; "
            "install pyzmq's own wheel"
        )
    server, server_secret = zmq.curve_keypair()
    public, secret = zmq.curve_keypair()
    return Keys(server.decode(), public.decode(), secret.decode()), server_secret


def server_options(secret: bytes) -> dict[int, int | bytes]:
    """The options of a socket that listens."""
    return {
        zmq.CURVE_SERVER: 1,
        zmq.CURVE_SECRETKEY: secret,
        zmq.ZAP_DOMAIN: _DOMAIN.encode(),
        # Without it libzmq lets everybody in when nobody answers.
        zmq.ZAP_ENFORCE_DOMAIN: 1,
    }


class _OneKey:
    """The list: one key."""

    def __init__(self, public: str) -> None:
        self._public = public.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        return domain == _DOMAIN and hmac.compare_digest(key, self._public)


class Doorkeeper:
    """The thread that answers ZAP's questions for all sockets of a context.

    Args:
        context: whose sockets; bind them after this, and close them before.
        public: the key to let in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], public: str) -> None:
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(_DOMAIN, _OneKey(public))

    def close(self) -> None:
        """End the thread."""
        self._authenticator.stop()

    def abandon(self) -> None:
        """In a forked child, where there is no such thread: tell it nothing."""
        self._authenticator.pipe = None  # type: ignore[assignment]
        self._authenticator.zap_socket = None  # type: ignore[assignment]
