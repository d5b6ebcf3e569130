"""What belongs to one hub, and so to one thread: its deadlines.

A deadline costs a float in a slot of its owner, not a timer: one repeating timer a hub looks through the owners four
times a second. It has a lower priority than reading, so that what has arrived is read before anybody is called late.
But the kernel tells of some descriptors at a time only: after a stall, who is late is asked whether something is there
that the loop has not come to yet. Deadlines are compared with the monotonic clock: the loop's own is the wall clock.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from time import monotonic
from typing import Any, Protocol

__all__ = [
    'NEVER',
    'Deadlines',
    'HasDeadline',
    'Pollable',
    'deadlines',
]

#: Seconds between two looks.
INTERVAL = 0.25

#: A deadline nearer than this gets a timer of its own.
PRECISE_BELOW = 0.5

#: The shortest time of a timer: gevent warns of less on libuv, and where warnings are errors it then frees a timer that
#: libuv still refers to.
SHORTEST = 0.001

#: A look that comes so many seconds too late says that the loop stood still, and for how long afterwards it is believed
#: that somebody was in time and nobody has noticed.
STALL, AFTER_STALL = 0.25, 1.0

#: The deadline of those who have none.
NEVER = float('inf')


class HasDeadline(Protocol):
    """An owner of a deadline; it may move ``_expires`` at any time, without telling."""

    #: A monotonic time before which nothing has to be done.
    _expires: float

    def _on_deadline(self, now: float) -> None:
        """``_expires`` has passed: act, or move it. Runs in the hub."""


class Pollable(Protocol):
    """A socket that may have news."""

    @abstractmethod
    def _poll_now(self) -> bool:
        """Return whether something has come, or could be sent, that the loop has not told of. Runs in the hub."""


class Deadlines:
    """The owners of deadlines on one hub."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._owners: dict[HasDeadline, Any] = {}
        self._timer: Any = None
        self._next_look = NEVER
        self._stalled_until = 0.0

    def watch(self, owner: HasDeadline) -> None:
        """Look after ``owner`` until :meth:`forget`."""
        if owner not in self._owners:
            self._owners[owner] = None
            if self._timer is None:
                self._next_look = monotonic() + INTERVAL
                self._timer = self._loop.timer(INTERVAL, INTERVAL, ref=False, priority=-1)
                self._timer.start(self._look)
        near = owner._expires - monotonic()
        if near < PRECISE_BELOW:
            self._watch_closely(owner, near)

    def _watch_closely(self, owner: HasDeadline, seconds: float) -> None:
        seconds = max(seconds, SHORTEST)
        timer = self._owners[owner]
        if timer is None:
            timer = self._owners[owner] = self._loop.timer(seconds, ref=False, priority=-1)
        else:
            timer.stop()
            timer.close()
            timer = self._owners[owner] = self._loop.timer(seconds, ref=False, priority=-1)
        timer.start(self._look_at, owner)

    def forget(self, owner: HasDeadline) -> None:
        """Look after ``owner`` no more."""
        timer = self._owners.pop(owner, None)
        if timer is not None:
            timer.stop()
            timer.close()
        if not self._owners and self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def grants_grace(self, socket: Pollable, now: float) -> bool:
        """Return whether the loop has stood still, and ``socket`` has news that was in time, maybe."""
        return now < self._stalled_until and socket._poll_now()

    def _came(self, now: float, expected: float) -> None:
        if now > expected + STALL:
            self._stalled_until = now + AFTER_STALL

    def _look_at(self, owner: HasDeadline) -> None:
        now = monotonic()
        self._came(now, owner._expires)
        if owner._expires <= now:
            owner._on_deadline(now)
        if owner in self._owners and owner._expires - now < PRECISE_BELOW:
            self._watch_closely(owner, owner._expires - now)

    def _look(self) -> None:
        now = monotonic()
        self._came(now, self._next_look)
        self._next_look = now + INTERVAL
        for owner in [owner for owner in self._owners if owner._expires <= now]:
            # it may have been forgotten on behalf of another
            if owner in self._owners:
                owner._on_deadline(now)


_deadlines: weakref.WeakKeyDictionary[Any, Deadlines] = weakref.WeakKeyDictionary()


def deadlines(hub: Any) -> Deadlines:
    """Return the deadlines of ``hub``."""
    found = _deadlines.get(hub)
    if found is None:
        found = _deadlines[hub] = Deadlines(hub.loop)
    return found
