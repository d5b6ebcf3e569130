"""Print one line of JSON: the versions of the interpreter that runs this, of its compiler, and of the packages."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.machine import package_version, python_build

__all__: list[str] = []


def main() -> None:
    """Print the versions."""
    found = {name: package_version(name) for name in ('gevent', 'greenlet')}
    print(
        json.dumps(
            {
                'version': platform.python_version(),
                'build': python_build(),
                'compiler': platform.python_compiler(),
                **found,
            }
        )
    )


if __name__ == '__main__':
    main()
