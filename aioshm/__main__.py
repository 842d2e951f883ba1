"""``python -m aioshm``: the same as the ``aioshm`` command."""

from __future__ import annotations

import sys

from aioshm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
