"""The turns of code that passes on data without waiting for it.

If a disk is slower than the client of a file, neither reading nor sending ever waits for the loop: no other greenlet
would run until the end of the file.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from gevent import get_hub

__all__ = ['Turn']

#: Seconds after which other greenlets have their turn. A turn of the loop takes some microseconds.
TURN_TIME = 0.001


class Turn:
    """The turn of one greenlet, which begins now."""

    __slots__ = ('_began',)

    def __init__(self) -> None:
        self._began = monotonic()

    def give_way(self) -> None:
        """Let other greenlets run if the turn has taken its time.

        Blocks until the loop has polled its sockets.
        """
        if monotonic() - self._began >= TURN_TIME:
            hub = get_hub()
            # not sleep(0): many such turns are taken before the loop polls for input
            # the stubs of gevent do not know that it is a context manager
            timer: Any = hub.loop.timer(0)
            with timer:
                hub.wait(timer)
            self._began = monotonic()
