"""Who gets which connection: the decisions of an agent, without any I/O.

Requests wait in one queue for each origin, first come, first served. :meth:`Pool.decide` looks at one destination
and says what is to be done next; whoever asked does it, and asks again until there is nothing. No method ever switches.

Under a limit on all connections together, a destination that has a connection goes on with it. One that has none, and
would get none as long as the others are busy, stands in line for the next connection that any of them gives back.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Iterable
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ['Action', 'Bucket', 'Decision', 'Pool']

Request = TypeVar('Request')
Connection = TypeVar('Connection')


class Action(enum.Enum):
    """What is to be done."""

    #: Send the request on the idle connection, which is in use from now on.
    REUSE = 'reuse'
    #: Make a connection for the request; it counts from now on, see :meth:`Pool.connected`.
    OPEN = 'open'
    #: Close the connection, which was idle and no longer counts.
    CLOSE = 'close'


class Decision(NamedTuple):
    """What is to be done, with what."""

    action: Action
    bucket: Any
    connection: Any
    request: Any


class Bucket(Generic[Request, Connection]):
    """What there is for one destination."""

    __slots__ = ('busy', 'connecting', 'idle', 'listed', 'name', 'queue', 'used', 'wait_time', 'waited')

    def __init__(self, name: str) -> None:
        self.name = name
        #: Connections in use.
        self.busy: dict[Connection, None] = {}
        #: Requests for which a connection is decided upon and not made yet.
        self.connecting: dict[Request, None] = {}
        #: Connections that nobody uses, the one used last at the end.
        self.idle: deque[Connection] = deque()
        #: Requests without a connection, in order; those that must not get one that was used before have True.
        self.queue: OrderedDict[Request, bool] = OrderedDict()
        #: Whether :attr:`Pool.with_idle` has this bucket, and whether one was put back since.
        self.listed = self.used = False
        #: How many requests got a connection after having waited, and how many seconds that took them in all.
        self.waited = 0
        self.wait_time = 0.0

    def requeue(self, request: Request, new: bool) -> None:
        """Let ``request``, whose connection was dead, wait before all others, for a ``new`` connection or any."""
        self.queue[request] = new
        self.queue.move_to_end(request, last=False)

    @property
    def size(self) -> int:
        """How many connections there are."""
        return len(self.busy) + len(self.connecting) + len(self.idle)


class Pool(Generic[Request, Connection]):
    """The connections and queues of all destinations.

    The attributes may be changed at any time: they are looked at for each decision.
    """

    def __init__(self) -> None:
        self.max_sockets: float = inf
        self.max_total_sockets: float = inf
        self.max_free_sockets: int = 256
        self.max_total_free_sockets: float = inf
        self.keep_alive = False
        self.lifo = True
        self.buckets: dict[str, Bucket[Request, Connection]] = {}
        #: How many connections there are.
        self.total = 0
        #: How many of these are idle, and the destinations that may have some. One that was used again goes to the end
        #: when its turn to give one up has come: so a plain request costs nothing but a note.
        self.free = 0
        self.with_idle: OrderedDict[Bucket[Request, Connection], None] = OrderedDict()
        #: Destinations that only the limit on all of them keeps waiting: without any connection, and with some.
        self.starving: OrderedDict[Bucket[Request, Connection], None] = OrderedDict()
        self.blocked: OrderedDict[Bucket[Request, Connection], None] = OrderedDict()

    # -- what has happened --------------------------------------------------------------------------------------------

    def bucket(self, name: str) -> Bucket[Request, Connection]:
        """Return what there is for the destination ``name``."""
        found = self.buckets.get(name)
        if found is None:
            found = self.buckets[name] = Bucket(name)
        return found

    def connected(self, bucket: Bucket[Request, Connection], connection: Connection, request: Request) -> None:
        """The connection that was to be made for ``request`` is here, or on its way, in use."""
        del bucket.connecting[request]
        bucket.busy[connection] = None

    def connect_failed(self, bucket: Bucket[Request, Connection], request: Request) -> None:
        """There will be no connection for ``request``."""
        del bucket.connecting[request]
        self.total -= 1
        self._forget_empty(bucket)

    def put_idle(self, bucket: Bucket[Request, Connection], connection: Connection) -> None:
        """``connection`` can serve another request."""
        del bucket.busy[connection]
        bucket.idle.append(connection)
        self.free += 1
        if bucket.listed:
            bucket.used = True
        else:
            bucket.listed = True
            self.with_idle[bucket] = None

    def remove(self, bucket: Bucket[Request, Connection], connection: Connection) -> None:
        """``connection`` is gone, or no longer the pool's."""
        if connection in bucket.busy:
            del bucket.busy[connection]
        elif connection in bucket.idle:
            bucket.idle.remove(connection)
            self.free -= 1
        else:
            return
        self.total -= 1
        if not bucket.size and self.blocked.pop(bucket, self) is None:
            self.starving[bucket] = None
        self._forget_empty(bucket)

    def dequeue(self, bucket: Bucket[Request, Connection], request: Request) -> None:
        """``request`` waits no more."""
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
        """Return the destinations to decide for when something has changed for ``bucket``, in order."""
        if not self.starving and not self.blocked:
            return (bucket,)
        return (*self.starving, bucket, *self.blocked)

    def take_idle(self, bucket: Bucket[Request, Connection]) -> Connection | None:
        """Return an idle connection, in use from now on, for a request that need not wait: what :meth:`decide` would
        say when it is asked for nothing else, at a fraction of the cost. None: let the request wait and decide."""
        if bucket.queue or not bucket.idle:
            return None
        connection = bucket.idle.pop() if self.lifo else bucket.idle.popleft()
        self.free -= 1
        bucket.busy[connection] = None
        return connection

    def must_wait(self, bucket: Bucket[Request, Connection]) -> bool:
        """Return whether a request that is added to ``bucket``, where nothing is left to be decided, and that cannot
        :meth:`take_idle` an idle connection, gets none now."""
        if bucket.queue or bucket.size >= self.max_sockets:
            return True
        return self.total >= self.max_total_sockets and not self.free

    def should_keep_idle(self, bucket: Bucket[Request, Connection]) -> bool:
        """Return whether a connection that has become idle stays so, and nothing else is to be decided."""
        return (
            self.keep_alive
            and not bucket.queue
            and not self.starving
            and not self.blocked
            and len(bucket.idle) <= self.max_free_sockets
            and self.free <= self.max_total_free_sockets
        )

    # -- what is to be done -------------------------------------------------------------------------------------------

    def decide(self, bucket: Bucket[Request, Connection]) -> Decision | None:
        """Return what is to be done next for ``bucket``, as if it were done; None for nothing."""
        if not bucket.queue:
            idle = bucket.idle
            if idle and (not self.keep_alive or len(idle) > self.max_free_sockets):
                return self._close(bucket)
            return self.close_idle() if self.free > self.max_total_free_sockets else None
        request, fresh = next(iter(bucket.queue.items()))
        if bucket.idle and not fresh:
            del bucket.queue[request]
            if not bucket.queue:
                self._unblock(bucket)
            connection = bucket.idle.pop() if self.lifo else bucket.idle.popleft()
            self.free -= 1
            bucket.busy[connection] = None
            return Decision(Action.REUSE, bucket, connection, request)
        if bucket.size >= self.max_sockets:
            # an idle one stands in the way of a request that needs a new one
            return self._close(bucket) if bucket.idle else None
        if self.total >= self.max_total_sockets:
            if self.free:
                return self.close_idle()
            (self.blocked if bucket.size else self.starving)[bucket] = None
            return None
        del bucket.queue[request]
        self._unblock(bucket)
        bucket.connecting[request] = None
        self.total += 1
        return Decision(Action.OPEN, bucket, None, request)

    def close_idle(self) -> Decision | None:
        """Let go of an idle connection of the destination that has not been used for longest; None: there is none."""
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
        """Let go of the connection that was idle longest."""
        connection = bucket.idle.popleft()
        self.free -= 1
        self.total -= 1
        self._forget_empty(bucket)
        return Decision(Action.CLOSE, bucket, connection, None)
