"""The commands: ``aioshm demo``.

::

    main.py      arguments to a command and its exit status
    version.py   which aioshm this is
    demo/        aioshm demo
"""
