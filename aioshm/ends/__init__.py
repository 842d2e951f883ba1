"""The two ends of a queue, below the public names of queue.py.

::

    overflowing.py   both, with messages larger than the ring's chunks
      │  │  └── overflow_writer.py, overflow_reader.py   marker in the ring, body elsewhere
    writer.py   WriterEnd: enqueue, roster, policy       reader.py   ReaderEnd: dequeue
      │  │  │                                              │  │
      │  │  ├── roster.py     who has which rank and slot  │  │
      │  │  └── patience.py   who is too slow for too long │  │
      │  └───── lease.py      in place, without a copy ────┼──┘
      └──────── end.py        what both ends share ────────┘
    stats.py    what `stats()` gives
"""
