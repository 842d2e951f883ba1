"""``aioshm bench``: the queue beside its peers, measured in turns, in one process tree.

::

    the command                               the child of one measurement
    command.py     options, rounds            child.py     its entry
    measure.py     one measurement  ──line──► work.py      flood, round trip, rate
    contenders.py  who is measured            family.py    the processes it forks
    plan.py        what is measured           payload.py   what is sent, how it is verified
    results.py     medians and ratios         channels/    aioshm, and each peer
    targets.py     what is meant to be        floors.py    what nobody can be faster than
    plot.py        the figures drawn
    surroundings.py  what they depend on
"""
