"""The greenlets that run request listeners, kept for the next request.

The hub switches to them, to the one that became idle last. A worker serves one request at a time, and then waits in the
pool of its hub. Its context is reset between two requests. An exception that is thrown into a worker ends it, also
while it is idle. Greenlet-local values live as long as the worker, as in a pool of threads. A setting of the server
limits the number of idle workers.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from typing import Any, Protocol

from gevent import Greenlet

__all__ = ['MAX_IDLE', 'HasIdleLimit', 'Job', 'Worker', 'end_idle_workers', 'idle_workers', 'limit_idle_workers']

#: The default number of idle workers that are kept on a hub.
MAX_IDLE = 256


class HasIdleLimit(Protocol):
    """A server, as far as workers use it."""

    #: The number of idle workers that are kept.
    _idle_limit: int


class Job(Protocol):
    """A connection with a request."""

    @property
    @abstractmethod
    def server(self) -> HasIdleLimit:
        """The server, which limits the idle workers."""

    def work(self) -> None:
        """Serve the request. Blocks until that is done. An exception ends the worker."""


class Worker(Greenlet):
    """A greenlet that serves one request after another.

    :param idle: the pool that it joins between two requests; None: it ends after the first one.
    """

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
                # thrown into an idle worker: a kill, or a timeout that a request has left running
                if idle is not None and self in idle:
                    idle.remove(self)
                raise


_pools: weakref.WeakKeyDictionary[Any, list[Worker]] = weakref.WeakKeyDictionary()


def idle_workers(hub: Any) -> list[Worker]:
    """Return the idle workers of ``hub``."""
    found = _pools.get(hub)
    if found is None:
        found = _pools[hub] = []
    return found


def limit_idle_workers(hub: Any, most: int) -> None:
    """Kill the longest idle workers of ``hub`` until ``most`` are left."""
    idle = idle_workers(hub)
    while len(idle) > most:
        idle.pop(0).kill(block=False)


def end_idle_workers(hub: Any) -> None:
    """Kill the idle workers of ``hub``. Blocks until they have ended."""
    idle = idle_workers(hub)
    while idle:
        idle.pop().kill()
