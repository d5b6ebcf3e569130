"""Run the command ``geventnode`` as ``python -m geventnode``."""

from __future__ import annotations

import sys

from geventnode.cli.main import main

__all__: list[str] = []

if __name__ == '__main__':
    sys.exit(main())
