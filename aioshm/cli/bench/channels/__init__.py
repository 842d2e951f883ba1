"""How messages get from one process to others: aioshm, and each of its peers.

::

    channel.py   what they have in common
    shm.py   zeromq.py   blocking.py   iceoryx.py
"""
