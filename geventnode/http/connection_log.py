"""Trace lines about connections, for the logger ``geventnode.connection``.

Most of these events happen in the hub, which must not wait for a log handler. So the lines are queued in their order,
and a greenlet writes them.
"""

from __future__ import annotations

import logging
from collections import deque

import gevent

__all__ = ['ConnectionLog']

log = logging.getLogger('geventnode.connection')


class ConnectionLog:
    """The trace lines of one server or one agent."""

    def __init__(self) -> None:
        self._pending: deque[tuple[str, tuple[object, ...]]] = deque()
        self._writing = False

    def add(self, message: str, *args: object) -> None:
        """Log ``message % args`` soon, after all earlier lines."""
        if log.isEnabledFor(logging.DEBUG):
            self._pending.append((message, args))
            if not self._writing:
                self._writing = True
                gevent.spawn(self._write)

    def _write(self) -> None:
        try:
            while self._pending:
                message, args = self._pending.popleft()
                log.debug(message, *args)
        finally:
            self._writing = False
