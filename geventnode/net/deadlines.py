"""The deadlines of one hub, and so of one thread.

A deadline costs a float in an attribute of its owner, not a timer: one repeating timer for each hub checks all owners
four times a second. It has a lower priority than reading, so that input that has arrived is received before its
deadline counts as missed. After a stall the loop still reports only some descriptors at a time: then an expired socket
is polled before it times out. Deadlines are compared with the monotonic clock; the loop's own is the wall clock.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from time import monotonic
from typing import Any, Protocol

__all__ = ['NEVER', 'Deadlines', 'HasDeadline', 'Pollable', 'deadlines']

#: Seconds between two sweeps.
INTERVAL = 0.25

#: A deadline nearer than this many seconds gets its own timer.
PRECISE_BELOW = 0.5

#: The shortest time of a timer. gevent warns of less on libuv; where warnings are errors, it then frees a timer that
#: libuv still refers to.
SHORTEST = 0.001

#: A sweep or a timer this many seconds late means that the loop stalled. For AFTER_STALL seconds from then, an expired
#: socket is polled before it times out.
STALL, AFTER_STALL = 0.25, 1.0

#: The deadline of an owner without one.
NEVER = float('inf')


class HasDeadline(Protocol):
    """An owner of a deadline, which can move ``_expires`` at any time."""

    #: The monotonic time before which :meth:`_on_deadline` is not called.
    _expires: float

    def _on_deadline(self, now: float) -> None:
        """``_expires`` has passed: act, or move it. Runs in the hub."""


class Pollable(Protocol):
    """A socket that can be polled without the loop."""

    @abstractmethod
    def _poll_now(self) -> bool:
        """Return whether there is unreported input or progress.

        Runs in the hub.
        """


class Deadlines:
    """Call the owners of expired deadlines on one hub."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._owners: dict[HasDeadline, Any] = {}
        self._timer: Any = None
        #: The owners for which the loop goes on running. Others have a descriptor that does so, or nothing waits for
        #: them.
        self._awaited: set[HasDeadline] = set()
        self._next_sweep = NEVER
        self._stalled_until = 0.0

    def watch(self, owner: HasDeadline, awaited: bool = False) -> None:
        """Check the deadline of ``owner`` until :meth:`forget`.

        :param awaited: whether the loop goes on running until then, even if nothing else can happen.
        """
        if owner not in self._owners:
            self._owners[owner] = None
            if self._timer is None:
                self._next_sweep = monotonic() + INTERVAL
                self._timer = self._loop.timer(INTERVAL, INTERVAL, ref=False, priority=-1)
                self._timer.start(self._sweep)
        if awaited:
            self._awaited.add(owner)
            self._timer.ref = True
        near = owner._expires - monotonic()
        if near < PRECISE_BELOW:
            self._start_timer(owner, near)

    def _start_timer(self, owner: HasDeadline, seconds: float) -> None:
        seconds = max(seconds, SHORTEST)
        timer = self._owners[owner]
        if timer is None:
            timer = self._owners[owner] = self._loop.timer(seconds, ref=False, priority=-1)
        else:
            timer.stop()
            timer.close()
            timer = self._owners[owner] = self._loop.timer(seconds, ref=False, priority=-1)
        timer.start(self._on_timer, owner)

    def forget(self, owner: HasDeadline) -> None:
        """Stop checking the deadline of ``owner``."""
        timer = self._owners.pop(owner, None)
        if timer is not None:
            timer.stop()
            timer.close()
        if owner in self._awaited:
            self._awaited.remove(owner)
            if not self._awaited:
                self._timer.ref = False
        if not self._owners and self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def grants_grace(self, socket: Pollable, now: float) -> bool:
        """Return whether an expired socket gets more time.

        It does if the loop has stalled, and ``socket`` has input or progress that can have been in time.
        """
        return now < self._stalled_until and socket._poll_now()

    def _check_for_stall(self, now: float, expected: float) -> None:
        if now > expected + STALL:
            self._stalled_until = now + AFTER_STALL

    def _on_timer(self, owner: HasDeadline) -> None:
        now = monotonic()
        self._check_for_stall(now, owner._expires)
        if owner._expires <= now:
            owner._on_deadline(now)
        if owner in self._owners and owner._expires - now < PRECISE_BELOW:
            self._start_timer(owner, owner._expires - now)

    def _sweep(self) -> None:
        now = monotonic()
        self._check_for_stall(now, self._next_sweep)
        self._next_sweep = now + INTERVAL
        for owner in [owner for owner in self._owners if owner._expires <= now]:
            # another owner's call can have removed it
            if owner in self._owners:
                owner._on_deadline(now)


_deadlines: weakref.WeakKeyDictionary[Any, Deadlines] = weakref.WeakKeyDictionary()


def deadlines(hub: Any) -> Deadlines:
    """Return the deadlines of ``hub``."""
    found = _deadlines.get(hub)
    if found is None:
        found = _deadlines[hub] = Deadlines(hub.loop)
    return found
