"""What a test may not leave behind: greenlets, active watchers, file descriptors.

A :class:`LeakCheck` notes what is alive when it is made; :meth:`LeakCheck.leaks` says what is alive beyond that. In
between it lets the loop run until nothing is left or a number of turns has passed: turns, not seconds, so that a slow
machine changes nothing. Garbage is collected only when something is left, for clean tests to stay fast.

Greenlets are found by the collector; a caller that has frozen what was there before (``gc.freeze``) makes that cheap.
Watchers are counted by the loop itself, which knows those that keep it alive. Idle workers of the HTTP layer are a
pool, no leak: they are drained first.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
import weakref

import gevent
import greenlet
from gevent.threadpool import _WorkerGreenlet

__all__ = ['LeakCheck', 'describe', 'live_greenlets']

SETTLING_TURNS = 50
STACK_LENGTH = 12
DESCRIPTORS = '/proc/self/fd'


class LeakCheck:
    """What is alive now, to be compared with what is alive later, in the same thread. May switch."""

    def __init__(self) -> None:
        # A callback of the loop may have switched here, and what it belongs to is not counted right until it returns.
        _idle()
        self._loop = gevent.get_hub().loop
        self._greenlets = weakref.WeakSet(live_greenlets())
        self._watchers = self._loop.activecnt
        self._descriptors = _descriptors()

    def leaks(self) -> list[str]:
        """Return a description of each thing that is alive and was not when the check was made. May switch."""
        for collect in (False, True):
            if collect:
                gc.collect()
            for _ in range(SETTLING_TURNS):
                _drain_pools()
                found = self._compare()
                if not found:
                    return []
                _idle()
        return found

    def _compare(self) -> list[str]:
        found = [describe(each) for each in live_greenlets() if each not in self._greenlets]
        watchers = self._loop.activecnt - self._watchers
        if watchers > 0:
            found.append(f'{watchers} active watcher(s): {_active_watchers()}')
        for descriptor, target in _descriptors().items():
            if self._descriptors.get(descriptor) != target:
                found.append(f'descriptor {descriptor}: {target}')
        return found


def _idle() -> None:
    """Wait until the loop has nothing else to do, and nothing that it has found and not yet called."""
    gevent.idle(gevent.get_hub().loop.MINPRI)


def live_greenlets() -> list[greenlet.greenlet]:
    """Return every greenlet that was started, or is to be, and has not ended; without hubs and helpers of threads."""
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, greenlet.greenlet)
        and each
        and each.parent is not None
        and not isinstance(each, gevent.hub.Hub | _WorkerGreenlet)
        and each is not greenlet.getcurrent()
    ]


def describe(waiting: greenlet.greenlet) -> str:
    """Return what ``waiting`` is and where it waits."""
    stack = traceback.format_stack(waiting.gr_frame, STACK_LENGTH) if waiting.gr_frame else []
    return '\n'.join([f'greenlet {waiting!r}', *stack])


def _active_watchers() -> list[object]:
    return [
        each
        for each in gc.get_objects()
        if type(each).__module__ == 'gevent.libev.corecext' and getattr(each, 'active', False)
    ]


def _descriptors() -> dict[int, str]:
    """Return what each open descriptor refers to; nothing where the system does not tell."""
    found = {}
    if os.path.isdir(DESCRIPTORS):
        for name in os.listdir(DESCRIPTORS):
            try:
                found[int(name)] = os.readlink(f'{DESCRIPTORS}/{name}')
            except FileNotFoundError:
                # The descriptor with which the directory itself was listed.
                continue
    return found


def _drain_pools() -> None:
    workers = sys.modules.get('geventnode.http.server.workers')
    if workers is not None:
        workers.drain(gevent.get_hub())
