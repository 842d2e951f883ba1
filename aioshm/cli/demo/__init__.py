"""``aioshm demo``: what the queue promises, in four acts with real processes.

::

    parent                                    each child process
    command.py     the acts in turn           child.py   its entry
    flood.py  trickle.py  crash.py  writer_gone.py       an act: its parent's half, which
    zmq_flood.py                                         conducts, and its ends
    stage.py       what every act gets        message.py what is sent, how it is verified
    report.py      what was found out

The parent is no end of any queue in the acts: it starts, kills, counts and shows, and
what it measures is not its own.
"""
