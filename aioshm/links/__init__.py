"""How the two ends of a queue meet and notice each other's end; knows nothing of the ring.

::

    local.py   LocalServer admits readers      local_client.py   LocalClient asks to be let in
      │  │  │                                    │  │  │
      │  │  └───────────── hello.py ─────────────┼──┼──┘   the packets of admission, as bytes
      │  └──────────── connection.py ────────────┼──┘      a socket and a pidfd in a loop
      └─────────────── folder.py ────────────────┘         where the sockets live
                       forks.py                            what a forked child lets go of

    remote.py  Router, Dealer: ZeroMQ's sockets in a loop
      └─────── flow.py   order, bounds and resumption of what they carry: no I/O
"""
