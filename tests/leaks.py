"""Find the greenlets, active watchers and file descriptors that a test leaves behind.

A :class:`LeakCheck` records the live objects when it is created; :meth:`LeakCheck.leaks` returns the new ones. It
first lets the loop run until there are none, for a limited number of turns: turns, not seconds, so that a slow
machine does not change the result. It collects garbage only if there are new objects, so that clean tests stay fast.

The collector finds greenlets, which is cheap if the caller has frozen older objects (``gc.freeze``). The loop counts
the watchers that keep it alive. Idle workers of the HTTP layer are a pool, not a leak: they are drained first.
"""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import sys
import traceback
import weakref

import gevent
import greenlet
from gevent.threadpool import _WorkerGreenlet

__all__ = ['LeakCheck', 'describe', 'live_greenlets']

#: Turns of the loop in which the last bytes of other programs can arrive.
SETTLING_TURNS = 100
STACK_LENGTH = 12
DESCRIPTORS = '/proc/self/fd'


class LeakCheck:
    """Record the live objects of this thread for a later comparison. Blocks until the loop is idle."""

    def __init__(self) -> None:
        # A callback of the loop can have switched here; its watcher is not counted correctly until it returns.
        _idle()
        self._loop = gevent.get_hub().loop
        self._greenlets = weakref.WeakSet(live_greenlets())
        self._watchers = self._loop.activecnt
        self._descriptors = _descriptors()

    def leaks(self) -> list[str]:
        """Return a description of each live object that is new. Blocks until the loop is idle."""
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
        for descriptor, file in _descriptors().items():
            if self._descriptors.get(descriptor) != file:
                found.append(f'descriptor {descriptor}: {os.readlink(f"{DESCRIPTORS}/{descriptor}")}')
        return found


def _idle() -> None:
    """Block until the loop is idle and has no pending callbacks."""
    gevent.idle(gevent.get_hub().loop.MINPRI)


def live_greenlets() -> list[greenlet.greenlet]:
    """Return every greenlet that has not ended, except hubs and helpers of threads."""
    objects = gc.get_objects()
    # few classes are checked instead of hundreds of objects: this runs twice for every test
    kinds = {
        kind
        for kind in set(map(type, objects))
        if issubclass(kind, greenlet.greenlet) and not issubclass(kind, gevent.hub.Hub | _WorkerGreenlet)
    }
    return [
        each
        for each in (objects if kinds else ())
        if type(each) in kinds and each and each.parent is not None and each is not greenlet.getcurrent()
    ]


def describe(waiting: greenlet.greenlet) -> str:
    """Return the name of a greenlet and its stack."""
    stack = traceback.format_stack(waiting.gr_frame, STACK_LENGTH) if waiting.gr_frame else []
    return '\n'.join([f'greenlet {waiting!r}', *stack])


def _active_watchers() -> list[object]:
    return [
        each
        for each in gc.get_objects()
        if type(each).__module__ == 'gevent.libev.corecext' and getattr(each, 'active', False)
    ]


def _descriptors() -> dict[int, tuple[int, int]]:
    """Return the inode and the device of each open descriptor; empty if the system has no ``/proc``."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for number in map(int, os.listdir(DESCRIPTORS)):
            try:
                # a fraction of the time of readlink()
                found[number] = os.fstat(number)[stat.ST_INO : stat.ST_DEV + 1]
            except OSError:
                # This descriptor was open only to list the directory.
                continue
    return found


def _drain_pools() -> None:
    workers = sys.modules.get('geventnode.http.server.workers')
    if workers is not None:
        workers.end_idle_workers(gevent.get_hub())
