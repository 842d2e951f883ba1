"""The engine: pure state machines over shared memory, without a loop and without sockets.

::

    ring.py        RingWriter.try_write, RingReader.try_read: in Python, or in C (choice.py)
      │  │
      │  └── layout.py      the byte map; every offset
      └───── ordering.py    fence, load_acquire, store_release: the way to a shared word
    segment.py     anonymous shared memory      doorbell.py    eventfd
"""
