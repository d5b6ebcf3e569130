"""Limit the log lines that peers cause, and count their events.

A peer can make connections fail as fast as it can open them. A line for each would hide other lines and fill the disk.
Therefore only LINES lines are written in a second; the others are counted, and the next line has their number. Their
level is INFO at most, because an operator need not act on nonsense from strangers.

Handlers of logs can block, which the hub must not do: its lines are written by a greenlet.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic

import gevent
from gevent import get_hub, getcurrent

__all__ = ['LINES', 'RateLimitedLog', 'log_from_hub']

log = logging.getLogger('geventnode.error')

#: Lines in a second.
LINES = 10


def log_from_hub(write: Callable[..., object], message: str, *args: object) -> None:
    """Call ``write``, a method of a logger: directly in a greenlet, or in a new greenlet from the hub."""
    if getcurrent() is get_hub():
        gevent.spawn(write, message, *args)
    else:
        write(message, *args)


class RateLimitedLog:
    """Write the log lines of one server, and count its refusals. Callers escape and shorten the bytes of peers."""

    def __init__(self) -> None:
        self._second = 0.0
        self._lines = 0
        #: The number of lines that were left out since the last written one.
        self.suppressed = 0
        #: The numbers of refused connections and requests, by reason.
        self.refusals: Counter[str] = Counter()

    def log_refusal(self, reason: str, message: str, *args: object) -> None:
        """Count a refusal, and log ``message % args`` as :meth:`info` does.

        :param reason: a word from a fixed set: it becomes a label of metrics.
        """
        self.refusals[reason] += 1
        self.info(message, *args)

    def info(self, message: str, *args: object) -> None:
        """Log ``message % args``, unless this second has had LINES lines."""
        self._write(logging.INFO, message, args)

    def debug(self, message: str, *args: object) -> None:
        """Log ``message % args`` as :meth:`info` does, at level DEBUG: the access log has the line, too."""
        self._write(logging.DEBUG, message, args)

    def _write(self, level: int, message: str, args: tuple[object, ...]) -> None:
        if not log.isEnabledFor(level):
            return
        now = monotonic()
        if now - self._second >= 1:
            self._second = now
            self._lines = 0
        if self._lines >= LINES:
            self.suppressed += 1
            return
        self._lines += 1
        if self.suppressed:
            message, args = f'{message} (and %d more lines were left out)', (*args, self.suppressed)
            self.suppressed = 0
        log_from_hub(partial(log.log, level), message, *args)
