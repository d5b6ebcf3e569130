"""Count the instructions of works with the interpreter that runs this, and print them as one line of JSON.

    python count.py NAME...

``NAME`` is a work of ``instructions.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.instructions import CountFailed, count

__all__: list[str] = []


def main() -> None:
    """Count."""
    try:
        print(json.dumps(count(*sys.argv[1:])))
    except CountFailed as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
