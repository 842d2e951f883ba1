"""The commands: ``aioshm demo`` and ``aioshm bench``.

::

    main.py      arguments to a command and its exit status
    demo/        aioshm demo
    bench/       aioshm bench
    children.py  ◄── JSON lines ──►  line.py      a command and its processes
    screen.py    what is shown                    figures.py  how numbers are written
    ending.py    signals, and how it ends         loops.py    the event loops, by name
    machine.py   what figures depend on           version.py  which aioshm this is
"""
