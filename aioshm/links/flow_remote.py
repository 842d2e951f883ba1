"""The writer's end of the flow protocol where no other link admits the readers.

A reader on another machine has nothing but this connection. So its HELLO also asks to be
let in, and what the local link tells by packets of its own is told here by frames: STATE,
whether all have joined and whether the queue was closed, after each WELCOME and whenever
it changes; and GOODBYE::

    rank:   free ──HELLO──► live ──GOODBYE──► free
                             │ └──evict─────► free, its session shut out
                             └──given up──► dead ──evict, or a HELLO──► free, or live

Who comes back to a dead rank with the session it had goes on where it was: nothing was
written meanwhile, or it was let go, and then joins as if it were new and learns by the
numbers of the messages what it missed.

To *probe* is to tell the same STATE once more: where the connection is gone, sending
fails, and that is how the loss of an idle one becomes known.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from aioshm.links.flow_sender import Outgoing, Peer, Sender
from aioshm.links.flow_wire import (
    REMOTE_PIECE,
    Breach,
    Goodbye,
    Hello,
    State,
    pack_state,
    reader_tag,
    writer_tag,
)

CLOSED, FAREWELL = "the queue is closed", "goodbye"
"""Refusals that are no trouble: to a HELLO, and to a GOODBYE."""

_EVICTED = "the writer went on without this reader"
_SESSIONS = 1024
_UNBOUNDED = 1 << 62


class Joined(NamedTuple):
    """A reader joined, or came back to a rank that was given up."""

    rank: int
    pid: int


class Left(NamedTuple):
    """A reader said goodbye."""

    rank: int


class RemoteSender(Sender):
    """The writer's end, for readers that are admitted by their HELLO.

    What it keeps is bounded by whoever appends.

    Args:
        ranks: the ranks there are.
        key: 32 secret bytes that every reader has been given.

    Attributes:
        events: what happened, oldest first; for the owner to take out.
        dead: the ranks that were given up and are not decided.
        number: the program's number of the next message, to be kept by whoever appends.
        gather: called before anything is sent, to append what was gathered; True if it
            waits for more, and it must not where a reader begins (True is its argument).
        gathering: what it returned last: look again after a turn of the loop.
    """

    def __init__(self, ranks: Collection[int], key: bytes) -> None:
        super().__init__(_UNBOUNDED, _UNBOUNDED, REMOTE_PIECE)
        self._ranks, self._key = frozenset(ranks), key
        self._ready = self._closed = False
        self._untold: set[int] = set()
        self._shut_out: dict[int, str] = {}
        self._started: dict[int, int] = {}
        self.number = 0
        self.gather: Callable[[bool], bool] = _nothing
        self.gathering = False
        self.events: list[Joined | Left] = []
        self.dead: set[int] = set()

    # -- readers come and go -------------------------------------------------------------

    @property
    def first(self) -> int:
        """The first message that some reader has not consumed."""
        return self._window.first

    @property
    def lost_ranks(self) -> list[int]:
        """Those whose readers have no connection now, and were not given up."""
        return [n for n, peer in self._peers.items() if peer.route is None and n not in self.dead]

    @property
    def live_ranks(self) -> list[int]:
        """Those whose readers were not given up."""
        return [n for n in self._peers if n not in self.dead]

    def cursor(self, rank: int) -> int:
        """How far a reader is, in bytes of the stream: it grows whenever the reader moves."""
        peer = self._peers[rank]
        consumed = self._window.offset((peer.consumed, 0))
        assert consumed is not None
        return consumed + peer.granted + peer.taken

    def progress(self, rank: int) -> tuple[int, int]:
        """Bytes of the stream that a reader has consumed, and that it has not."""
        peer = self._peers[rank]
        consumed = self._window.offset((peer.consumed, 0))
        end = self._window.offset((self._window.next, 0))
        assert consumed is not None
        assert end is not None
        return consumed, end - consumed

    def slowest(self) -> list[int]:
        """The ranks whose readers keep the first message in the window."""
        return [n for n, peer in self._peers.items() if peer.consumed == self._window.first]

    def last_connection(self, rank: int) -> tuple[int | None, int]:
        """The session of a rank's reader, and which of its connections was the last one."""
        peer = self._peers[rank]
        return peer.session, peer.connection

    def give_up(self, rank: int) -> None:
        """A reader was away for too long; keep what is for it until that is decided."""
        self.dead.add(rank)

    def let_go(self, rank: int) -> None:
        """Keep nothing more for a reader; should it come back, it misses what comes now."""
        self.dead.discard(rank)
        self._untold.discard(rank)
        self._started.pop(rank, None)
        self.remove(rank)

    def evict(self, rank: int) -> None:
        """Keep nothing more for a reader, and let it in no more."""
        peer = self._peers.get(rank)
        if peer is None:
            return
        self._shut(peer, _EVICTED)
        if peer.route is not None:
            self._refuse(peer.route, peer.tag_out, _EVICTED)
        self.let_go(rank)

    def _shut(self, peer: Peer, reason: str) -> None:
        """Answer every further HELLO of this session with a refusal."""
        assert peer.session is not None
        self._shut_out[peer.session] = reason
        if len(self._shut_out) > _SESSIONS:
            del self._shut_out[next(iter(self._shut_out))]

    def _claimant(self, route: bytes, hello: Hello) -> Peer | Breach | None:
        rank, session = hello.peer, hello.session
        if not hmac.compare_digest(reader_tag(self._key, rank, session), hello.tag):
            return Breach(f"a stranger says that it is rank {rank}")
        peer, other = self._peers.get(rank), self._routes.get(route)
        if other is not None and other is not peer:
            return Breach(f"rank {rank} on the connection of rank {other.number}")
        refusal = self._refusal(rank, session, peer)
        if refusal is not None:
            self._refuse(route, writer_tag(self._key, rank, session), refusal)
            return None
        if peer is not None and peer.session != session:
            self.let_go(rank)
            peer = None
        if peer is None:
            self.gather(True)
            self.admit(rank, self._key)
        return self._peers[rank]

    def _hello(self, route: bytes, hello: Hello) -> Breach | None:
        found = super()._hello(route, hello)
        rank = hello.peer
        peer = self._peers.get(rank)
        if peer is None:
            return found
        if peer.session is None:
            # It was made for this HELLO, which then asked for what there is not.
            self.remove(rank)
        elif peer.route == route:
            if rank not in self._started or rank in self.dead:
                self.dead.discard(rank)
                self._started.setdefault(rank, self.number)
                self.events.append(Joined(rank, hello.pid))
            self._untold.add(rank)
        return found

    def _refusal(self, rank: int, session: int, peer: Peer | None) -> str | None:
        if session in self._shut_out:
            return self._shut_out[session]
        if self._closed and peer is None:
            return CLOSED
        if rank not in self._ranks:
            return f"there is no remote rank {rank}; there are {sorted(self._ranks)}"
        if peer is not None and peer.session != session and rank not in self.dead:
            return f"rank {rank} is taken by another reader; evict it or choose another rank"
        return None

    def _goodbye(self, route: bytes, goodbye: Goodbye) -> Breach | None:
        peer = self._routes.get(route)
        if peer is None:
            # As an ACK, it may come ahead of the HELLO; after that it comes again.
            if route in self._former or self._is_known(goodbye.tag):
                return None
            return Breach("a GOODBYE from a stranger")
        if not hmac.compare_digest(peer.tag_in, goodbye.tag):
            return Breach(f"rank {peer.number} says GOODBYE for another session")
        # It may not have heard the answer, and say HELLO once more.
        self._shut(peer, FAREWELL)
        self._refuse(route, peer.tag_out, FAREWELL)
        self.let_go(peer.number)
        self.events.append(Left(peer.number))
        return None

    # -- the state of the queue --------------------------------------------------------------

    def tell(self, *, ready: bool, closed: bool = False) -> None:
        """Tell every reader how the queue is, those who join later too.

        Args:
            ready: all readers have joined.
            closed: nothing more will be written.
        """
        self._ready, self._closed = ready, closed
        self.probe()

    def outgoing(self) -> Iterator[Outgoing]:
        """Give what is to be sent, as `Sender.outgoing`."""
        self.gathering = self.gather(False)
        yield from super().outgoing()

    def probe(self) -> None:
        """Tell every connected reader the same again; what fails shows who is gone."""
        self._untold.update(self._peers)

    def _next(self, peer: Peer) -> Sequence[Any] | None:
        if peer.route is not None and not peer.welcome and peer.number in self._untold:
            self._untold.discard(peer.number)
            state = State(
                peer.tag_out,
                self._ready,
                self._closed,
                peer.first,
                self._started[peer.number],
                self._window.next,
                self.number,
            )
            return [pack_state(state)]
        return super()._next(peer)


def _nothing(now: bool) -> bool:
    """Nothing is gathered."""
    return False
