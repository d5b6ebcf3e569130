"""Decide which request gets which connection, without any I/O.

Requests wait in one queue for each origin, first come, first served. :meth:`Pool.decide` returns the next decision for
one origin; the agent applies it, and calls again until there is none.

Under a limit on all connections together, an origin that has a connection goes on with it. An origin without one
waits for the next connection that another origin gives back.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ['Action', 'Bucket', 'Decision', 'Pool']

Request = TypeVar('Request')
Connection = TypeVar('Connection')


class Action(enum.Enum):
    """The kinds of decisions."""

    #: Send the request on the idle connection, which is active from now on.
    REUSE = 'reuse'
    #: Make a connection for the request; it counts from now on, see :meth:`Pool.connected`.
    OPEN = 'open'
    #: Close the connection, which was idle and no longer counts.
    CLOSE = 'close'


class Decision(NamedTuple):
    """An action, and its connection and request, None where it has none."""

    action: Action
    bucket: Any
    connection: Any
    request: Any


class Bucket(Generic[Request, Connection]):
    """The connections and the queue of one origin."""

    __slots__ = ('active', 'connecting', 'idle', 'listed', 'name', 'queue', 'used', 'wait_time', 'waited')

    def __init__(self, name: str) -> None:
        self.name = name
        #: Active connections.
        self.active: dict[Connection, None] = {}
        #: Requests for which a connection is to be made, and does not exist yet.
        self.connecting: dict[Request, None] = {}
        #: Idle connections, the one used last at the end.
        self.idle: deque[Connection] = deque()
        #: Requests without a connection, in order; True for those that must not get a used one.
        self.queue: OrderedDict[Request, bool] = OrderedDict()
        #: Whether :attr:`Pool.with_idle` has this bucket, and whether a connection was put back since the bucket was
        #: added or moved there.
        self.listed = self.used = False
        #: The number of requests that got a connection after having waited, and the seconds of their waits altogether.
        self.waited = 0
        self.wait_time = 0.0

    def requeue(self, request: Request, new: bool) -> None:
        """Put ``request`` first in the queue: its connection was closed.

        :param new: whether it must not get a used connection.
        """
        self.queue[request] = new
        self.queue.move_to_end(request, last=False)

    @property
    def size(self) -> int:
        """The number of connections."""
        return len(self.active) + len(self.connecting) + len(self.idle)


class Pool(Generic[Request, Connection]):
    """The connections and queues of all origins.

    The limits can be changed at any time: they are read for each decision.
    """

    def __init__(self) -> None:
        self.max_sockets: float = inf
        self.max_total_sockets: float = inf
        self.max_free_sockets: float = 256
        self.max_total_free_sockets: float = inf
        self.keep_alive = False
        self.lifo = True
        self.buckets: dict[str, Bucket[Request, Connection]] = {}
        #: The number of connections.
        self.total = 0
        #: The number of idle connections.
        self.idle = 0
        #: The origins that can have idle connections, the one that has been unused for longest first. A request only
        #: sets a flag of its origin; :meth:`close_idle` moves an origin with that flag to the end.
        self.with_idle: OrderedDict[Bucket[Request, Connection], None] = OrderedDict()
        #: Origins without a connection, with requests that wait because of the total limit alone.
        self.starving: OrderedDict[Bucket[Request, Connection], None] = OrderedDict()
        #: The same for origins that have connections.
        self.blocked: OrderedDict[Bucket[Request, Connection], None] = OrderedDict()

    # -- changes --------------------------------------------------------------------------------------------

    def bucket(self, name: str) -> Bucket[Request, Connection]:
        """Return the bucket of the origin ``name``."""
        found = self.buckets.get(name)
        if found is None:
            found = self.buckets[name] = Bucket(name)
        return found

    def connected(self, bucket: Bucket[Request, Connection], connection: Connection, request: Request) -> None:
        """Add the connection that was made for ``request``, as an active one."""
        del bucket.connecting[request]
        bucket.active[connection] = None

    def connect_failed(self, bucket: Bucket[Request, Connection], request: Request) -> None:
        """Note that no connection could be made for ``request``."""
        del bucket.connecting[request]
        self.total -= 1
        self._forget_empty(bucket)

    def put_idle(self, bucket: Bucket[Request, Connection], connection: Connection) -> bool:
        """Make ``connection`` idle; return whether it can stay idle without a decision."""
        del bucket.active[connection]
        bucket.idle.append(connection)
        self.idle += 1
        if bucket.listed:
            bucket.used = True
        else:
            bucket.listed = True
            self.with_idle[bucket] = None
        return (
            self.keep_alive
            and not bucket.queue
            and not self.starving
            and not self.blocked
            and len(bucket.idle) <= self.max_free_sockets
            and self.idle <= self.max_total_free_sockets
        )

    def remove(self, bucket: Bucket[Request, Connection], connection: Connection) -> None:
        """Remove ``connection``: it was closed, or has left the pool."""
        if connection in bucket.active:
            del bucket.active[connection]
        elif connection in bucket.idle:
            bucket.idle.remove(connection)
            self.idle -= 1
        else:
            return
        self.total -= 1
        if not bucket.size and self.blocked.pop(bucket, self) is None:
            self.starving[bucket] = None
        self._forget_empty(bucket)

    def dequeue(self, bucket: Bucket[Request, Connection], request: Request) -> None:
        """Take ``request`` out of the queue."""
        if bucket.queue.pop(request, None) is not None and not bucket.queue:
            self._unblock(bucket)
            self._forget_empty(bucket)

    def _unblock(self, bucket: Bucket[Request, Connection]) -> None:
        self.starving.pop(bucket, None)
        self.blocked.pop(bucket, None)

    def _forget_empty(self, bucket: Bucket[Request, Connection]) -> None:
        if not bucket.queue and not bucket.size:
            self.buckets.pop(bucket.name, None)
            self._unlist(bucket)

    def affected(self, bucket: Bucket[Request, Connection]) -> Iterable[Bucket[Request, Connection]]:
        """Return the buckets that a change of ``bucket`` affects, in order.

        Each is to be decided before the next one is taken.
        """
        if not self.starving and not self.blocked:
            return (bucket,)
        return self._affected(bucket)

    def _affected(self, bucket: Bucket[Request, Connection]) -> Iterator[Bucket[Request, Connection]]:
        yield from self._first_of(self.starving)
        yield bucket
        yield from self._first_of(self.blocked)

    def _first_of(
        self, waiting: OrderedDict[Bucket[Request, Connection], None]
    ) -> Iterator[Bucket[Request, Connection]]:
        """Yield the first bucket while it can get a connection.

        Its decision takes it out of ``waiting``. A look at all of them for each change would take time that grows with
        the square of the number of origins.
        """
        before = None
        while waiting and (self.idle or self.total < self.max_total_sockets):
            first = next(iter(waiting))
            if first is before:
                return
            yield first
            before = first

    def take_idle(self, bucket: Bucket[Request, Connection]) -> Connection | None:
        """Return an idle connection; None if the request must be queued.

        The connection is active from now on. It is the decision that :meth:`decide` would return if there is no other
        one, at a fraction of the cost.
        """
        if bucket.queue or not bucket.idle:
            return None
        connection = bucket.idle.pop() if self.lifo else bucket.idle.popleft()
        self.idle -= 1
        bucket.active[connection] = None
        return connection

    def must_wait(self, bucket: Bucket[Request, Connection]) -> bool:
        """Return whether a request that is added now gets no connection.

        For a bucket for which everything was decided, and a request that cannot :meth:`take_idle`.
        """
        if bucket.queue or bucket.size >= self.max_sockets:
            return True
        return self.total >= self.max_total_sockets and not self.idle

    # -- decisions -------------------------------------------------------------------------------------------

    def decide(self, bucket: Bucket[Request, Connection]) -> Decision | None:
        """Return the next decision for ``bucket``, None if there is none.

        The pool counts it as applied.
        """
        idle = bucket.idle
        if idle and (bucket.size > self.max_sockets or self.total > self.max_total_sockets):
            # a limit was lowered
            return self._close(bucket)
        if not bucket.queue:
            if idle and (not self.keep_alive or len(idle) > self.max_free_sockets):
                return self._close(bucket)
            return self.close_idle() if self.idle > self.max_total_free_sockets else None
        request, fresh = next(iter(bucket.queue.items()))
        if bucket.idle and not fresh:
            del bucket.queue[request]
            if not bucket.queue:
                self._unblock(bucket)
            connection = bucket.idle.pop() if self.lifo else bucket.idle.popleft()
            self.idle -= 1
            bucket.active[connection] = None
            return Decision(Action.REUSE, bucket, connection, request)
        if bucket.size >= self.max_sockets:
            if bucket.idle:
                # an idle connection is closed for a request that needs a new one
                return self._close(bucket)
            # it waits for one of its own connections
            self.blocked.pop(bucket, None)
            return None
        if self.total >= self.max_total_sockets:
            if self.idle:
                return self.close_idle()
            (self.blocked if bucket.size else self.starving)[bucket] = None
            return None
        del bucket.queue[request]
        self._unblock(bucket)
        bucket.connecting[request] = None
        self.total += 1
        return Decision(Action.OPEN, bucket, None, request)

    def close_idle(self) -> Decision | None:
        """Close an idle connection of the origin that was unused for longest."""
        while self.with_idle:
            bucket = next(iter(self.with_idle))
            if not bucket.idle:
                self._unlist(bucket)
            elif bucket.used:
                bucket.used = False
                self.with_idle.move_to_end(bucket)
            else:
                return self._close(bucket)
        return None

    def _unlist(self, bucket: Bucket[Request, Connection]) -> None:
        if bucket.listed:
            bucket.listed = bucket.used = False
            del self.with_idle[bucket]

    def _close(self, bucket: Bucket[Request, Connection]) -> Decision:
        """Close the connection that was idle for longest."""
        connection = bucket.idle.popleft()
        self.idle -= 1
        self.total -= 1
        self._forget_empty(bucket)
        return Decision(Action.CLOSE, bucket, connection, None)
