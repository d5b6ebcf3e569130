"""The greenlets that run request listeners, kept for the next request.

They are entered by ``switch`` from the hub, last in, first out. A worker serves one request at a time and then waits in
its hub's pool; nothing of one request is seen by the next: the context is reset. What was thrown at a worker, idle or
not, ends it. Greenlet-local values live as long as the worker does, as they do in a thread pool; a setting of the
server bounds how many workers that may be.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from typing import Any, Protocol

from gevent import Greenlet

__all__ = ['MAX_IDLE', 'HasIdleLimit', 'Job', 'Worker', 'drain', 'pool', 'trim']

#: The default number of idle workers that are kept on a hub.
MAX_IDLE = 256


class HasIdleLimit(Protocol):
    """A server."""

    #: How many idle workers are kept.
    _idle_limit: int


class Job(Protocol):
    """What a worker does."""

    @property
    @abstractmethod
    def server(self) -> HasIdleLimit:
        """The server, whose setting bounds the idle workers."""

    def work(self) -> None:
        """Do it. May switch. What is raised ends the worker."""


class Worker(Greenlet):
    """One greenlet of a pool; without one (None) it ends after its first job."""

    def __init__(self, hub: Any, idle: list[Worker] | None) -> None:
        Greenlet.__init__(self)
        self._hub = hub
        self._idle = idle
        #: The first job.
        self.job: Job | None = None

    def _run(self) -> None:
        idle = self._idle
        switch = self._hub.switch
        job = self.job
        self.job = None
        while True:
            if job is not None:
                job.work()
                self.gr_context = None
                if idle is None or len(idle) >= job.server._idle_limit:
                    return
                job = None
                idle.append(self)
            try:
                job = switch()
            except BaseException:
                # thrown at an idle worker: killed, or a timeout that a request left behind
                if idle is not None and self in idle:
                    idle.remove(self)
                raise


_pools: weakref.WeakKeyDictionary[Any, list[Worker]] = weakref.WeakKeyDictionary()


def pool(hub: Any) -> list[Worker]:
    """Return the idle workers of ``hub``."""
    found = _pools.get(hub)
    if found is None:
        found = _pools[hub] = []
    return found


def trim(hub: Any, most: int) -> None:
    """End the longest idle workers of ``hub`` until ``most`` are left."""
    idle = pool(hub)
    while len(idle) > most:
        idle.pop(0).kill(block=False)


def drain(hub: Any) -> None:
    """End the idle workers of ``hub``. May switch: returns when they have ended."""
    idle = pool(hub)
    while idle:
        idle.pop().kill()
