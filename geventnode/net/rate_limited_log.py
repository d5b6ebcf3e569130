"""The log lines and counters that peers cause: few lines, however many peers there are.

A peer can make connections fail as fast as it can open them, and a log that holds a line for each hides what matters,
and fills the disk. So there are so many lines a second; the others are counted, and the next line tells how many. They
have level INFO at most: that a stranger sends nonsense is nothing that an operator has to act on.

Handlers of logs may wait, which the hub must not do: what it has to say is said by a greenlet.
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
    """Call ``write``, a method of a logger: at once in a greenlet, soon in the hub. Never switches in the hub."""
    if getcurrent() is get_hub():
        gevent.spawn(write, message, *args)
    else:
        write(message, *args)


class RateLimitedLog:
    """The lines of one server, and the numbers of its refusals. Callers escape and cut the bytes of the peer."""

    def __init__(self) -> None:
        self._second = 0.0
        self._lines = 0
        #: How many lines were left out since the last one that was written.
        self.suppressed = 0
        #: How many connections and requests were refused, by reason.
        self.refusals: Counter[str] = Counter()

    def log_refusal(self, reason: str, message: str, *args: object) -> None:
        """Count a refusal and log ``message % args`` as :meth:`info` does. Never switches in the hub.

        :param reason: a word from a fixed set: it becomes a label of metrics.
        """
        self.refusals[reason] += 1
        self.info(message, *args)

    def info(self, message: str, *args: object) -> None:
        """Log ``message % args``, unless there were too many in this second. Never switches in the hub."""
        self._write(logging.INFO, message, args)

    def debug(self, message: str, *args: object) -> None:
        """As :meth:`info`, for lines that the access log has, too. Never switches in the hub."""
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
