"""The run queue: connections with another request in their buffer, resumed in turn."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import Any, Protocol

__all__ = ['SLICE', 'Resumable', 'RunQueue']

#: Seconds after which the rest of the queue waits for the next turn of the loop. A client with a single request is not
#: in the queue, and waits no longer than this even if many others flood the server.
SLICE = 0.001


class Resumable(Protocol):
    """A connection with buffered requests."""

    def resume(self) -> None:
        """Serve some of them. Run by the hub."""


class RunQueue:
    """A queue, first in, first out.

    Connections that join during a turn of the loop wait for the next one, so that new input is read between two turns.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._queue: OrderedDict[Resumable, None] = OrderedDict()
        self._timer: Any = None

    def add(self, connection: Resumable) -> None:
        """Resume ``connection`` in a later turn of the loop."""
        self._queue[connection] = None
        self._start_timer()

    def discard(self, connection: Resumable) -> None:
        """Remove ``connection`` if it is in the queue."""
        self._queue.pop(connection, None)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self._loop.timer(0)
            self._timer.start(self._turn)

    def _turn(self) -> None:
        self._timer.stop()
        self._timer.close()
        self._timer = None
        queue = self._queue
        end = monotonic() + SLICE
        try:
            for _ in range(len(queue)):
                if not queue:
                    break
                queue.popitem(last=False)[0].resume()
                if monotonic() >= end:
                    break
        finally:
            if queue:
                self._start_timer()
