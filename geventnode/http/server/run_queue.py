"""The line of connections that have another request in their buffer: they are served in turn, a little at a time."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import Any, Protocol

__all__ = ['SLICE', 'Ready', 'RunQueue']

#: Seconds after which the rest of the line waits for the next turn of the loop. Whoever has sent one request, and
#: stands in no line, waits for no more than this, however many flood the server.
SLICE = 0.001


class Ready(Protocol):
    """Something that has work to do."""

    def resume(self) -> None:
        """Do some of it. Runs in the hub."""


class RunQueue:
    """First come, first served; who comes meanwhile waits for the next turn of the loop, so that input is looked at
    between."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._line: OrderedDict[Ready, None] = OrderedDict()
        self._timer: Any = None

    def add(self, one: Ready) -> None:
        """Let ``one`` stand in line."""
        self._line[one] = None
        self._arm()

    def discard(self, one: Ready) -> None:
        """``one`` no longer has to wait."""
        self._line.pop(one, None)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self._loop.timer(0)
            self._timer.start(self._turn)

    def _turn(self) -> None:
        self._timer.stop()
        self._timer.close()
        self._timer = None
        line = self._line
        over = monotonic() + SLICE
        try:
            for _ in range(len(line)):
                if not line:
                    break
                line.popitem(last=False)[0].resume()
                if monotonic() >= over:
                    break
        finally:
            if line:
                self._arm()
