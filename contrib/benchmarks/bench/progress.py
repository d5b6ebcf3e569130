"""Progress of a run: lines on standard error, so that the report can be redirected."""

from __future__ import annotations

import sys

__all__ = ['say']


def say(message: str) -> None:
    """Print one line at once."""
    print(message, file=sys.stderr, flush=True)
