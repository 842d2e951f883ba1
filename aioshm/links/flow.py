"""The protocol of bodies over ZeroMQ: order, bounds and resumption, without any I/O.

Theory of operation
-------------------
The writer's messages have *sequence* numbers, counted from 0 without holes. Each enters
a *window* that every reader shares, bounded in messages and bytes, and leaves it once
all readers have consumed it. A message travels in *pieces* of at most 1 MiB, so that a
long one keeps nobody from being heard in between; a place in the stream is a *position*,
``(sequence, piece)``::

    writer   first                 consumed[1]      granted[0]    sent[0]      next
             ──┼───────────────────────┼────────────────┼────────────┼───────────┼──
               │ window: kept until consumed by all     │ in flight  │ not sent  │ room

    reader           consumed              next                granted
             ───────────┼──────────────────────┼──────────────────┼──
                        │ whole messages, and  │ to come          │ credit ends
                        │ pieces of one        │

*Acknowledgement* is cumulative, and by the reader's consumption: ``consumed`` is the
first message the program has not taken. *Credit* only paces: at most so many bytes are
sent beyond the position that the reader granted. The reader grants what it received, and
stops granting while a lot of it lies unconsumed, so its memory stays bounded too. What a
writer may accept depends on the window alone, never on credit or on a connection.

A reader says HELLO on every connection: who it is, what it consumed, and at which
position it goes on. The writer answers with the position it can go on from. That is the
same one, and nothing is lost; or a later one, where the window has moved on, and what
lies between is a *gap*. Connections are counted by the reader, because what two of them
carry may be read in any order: the writer heeds the latest only, and a reader takes each
piece from whichever connection brings it first.

Every frame carries a tag, made from a key that both ends were given when the reader was
admitted, and from the session. A peer that sends anything it should not (`Breach`) is
ignored until it makes a new connection, and counted.

::

    Sender    flow_sender.py      the writer's end, for all readers
              flow_remote.py      the same where a HELLO admits, too
    Receiver  flow_receiver.py    a reader's end
              flow_batch.py       small messages that travel as one
              flow_window.py      what the writer keeps; cutting into pieces
              flow_assembly.py    pieces to messages
              flow_wire.py        frames as bytes
"""

from aioshm.links.flow_receiver import Receiver
from aioshm.links.flow_sender import Sender
from aioshm.links.flow_window import cut
from aioshm.links.flow_wire import PIECE, Breach

__all__ = ["PIECE", "Breach", "Receiver", "Sender", "cut"]
