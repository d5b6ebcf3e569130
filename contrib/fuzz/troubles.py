"""Notes what would only be printed or logged: exceptions that nobody catches, and what the package calls an error."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from gevent import get_hub

__all__ = ['Meant', 'noted']

_log = logging.getLogger('geventnode.error')


class Meant(Exception):
    """Raised by listeners that are there to raise."""


class _Noting(logging.Handler):
    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Meant):
            return
        self._notes.append(f'logged: {record.getMessage()}: {error!r}')


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Give a list into which every such thing is written while the block runs, and nowhere else."""
    notes: list[str] = []
    hub = get_hub()

    def handle_error(context: Any, kind: Any, value: Any, traceback: Any) -> None:
        notes.append(f'uncaught in {context!r}: {value!r}')

    handler = _Noting(notes)
    _log.addHandler(handler)
    propagates, _log.propagate = _log.propagate, False
    hub.handle_error = handle_error
    try:
        yield notes
    finally:
        del hub.handle_error
        _log.propagate = propagates
        _log.removeHandler(handler)
