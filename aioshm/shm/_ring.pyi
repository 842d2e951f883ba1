# The C ring has the interface of the Python ring, so their types are the same.
from aioshm.shm.ring_reader import RingReader as RingReader
from aioshm.shm.ring_writer import RingWriter as RingWriter

def fence() -> None: ...
