"""Real processes under stress: kills, stops, cancels, races, by the hundred or the million.

Theory of operation
-------------------
::

    test (supervisor, one loop)             nursery (imported everything, runs no loop)
      │  start(role, args) ────────────────►  fork ──► worker: one role, a loop of its own
      │  ◄──────────── wire: orders and reports ─────────►│
      └─ SIGKILL, SIGSTOP, SIGCONT ──────────────────────►│

The supervisor is on no message's path: workers share queues with each other, and what a
worker had done before it was killed stands in a *witness*, words of shared memory that
every process has mapped. Every message carries its sequence number and a CRC over both
(`traffic.py`), so each reader finds for itself what is lost, doubled, torn or out of order.

``--stress-scale`` is a factor on every count: 1 is for CI, and 40 reaches 1,000 kills at
either end, 200 stops, 100,000 cancels, 1,000,000 parks and 10,000,000 messages.
``--stress-seed`` repeats the choices of an earlier run, though not its scheduling.
"""
