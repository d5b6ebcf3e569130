"""Record exceptions that are only printed or logged: uncaught ones, and those in the error log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from gevent import get_hub

__all__ = ['DeliberateError', 'errors_recorded']

_log = logging.getLogger('geventnode.error')


class DeliberateError(Exception):
    """Raised by listeners on purpose."""


class _RecordingHandler(logging.Handler):
    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DeliberateError):
            return
        self._errors.append(f'logged: {record.getMessage()}: {error!r}')


@contextlib.contextmanager
def errors_recorded() -> Iterator[list[str]]:
    """Yield a list that receives these errors, instead of standard error and the log."""
    errors: list[str] = []
    hub = get_hub()

    def handle_error(context: Any, kind: Any, value: Any, traceback: Any) -> None:
        errors.append(f'uncaught in {context!r}: {value!r}')

    handler = _RecordingHandler(errors)
    _log.addHandler(handler)
    propagates, _log.propagate = _log.propagate, False
    hub.handle_error = handle_error
    try:
        yield errors
    finally:
        del hub.handle_error
        _log.propagate = propagates
        _log.removeHandler(handler)
