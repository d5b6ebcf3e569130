"""A program that executes source text, as ``python -c`` does, after it has imported the package.

``tests/prepared.py`` runs it in forks, and so without the time of the imports.
"""

from __future__ import annotations

import sys

import geventnode.http  # noqa: F401

__all__ = ['main']


def main(source: str) -> None:
    """Execute ``source``; its names exist until the interpreter ends."""
    exec(source, vars(sys.modules['__main__']))


if __name__ == '__main__':
    main(sys.argv[1])
