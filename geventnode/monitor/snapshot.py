"""Take a snapshot of the connections of servers and agents, in steps.

A process can have tens of thousands of connections, and a snapshot must not block the loop. So its methods are
generators that yield after each connection, and the caller can let other greenlets run. The snapshot is therefore not
atomic: the first connections are read earlier than the last ones.

Tables are bounded. They keep the oldest active requests, and the pools with the longest queues.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

from geventnode.http.client.agent import Agent, AgentBucket
from geventnode.http.server.served import ServedConnection
from geventnode.http.server.server import ACTIVITIES, Server, activity_of

__all__ = ['Exchange', 'PoolStatistics', 'Snapshot', 'TopN']

Item = TypeVar('Item')


class Exchange(NamedTuple):
    """An active exchange."""

    #: The socket of its connection.
    socket: Any
    #: None if the request is no longer known.
    method: str | None
    target: str | None
    #: See :class:`Snapshot`.
    state: str
    #: When the server received the head, or the agent assigned a connection (monotonic).
    began: float
    #: The name of the agent; '' for an exchange of a server.
    agent: str = ''


class PoolStatistics(NamedTuple):
    """The statistics of an agent's pool for one origin."""

    agent: str
    origin: str
    #: The limit for connections.
    limit: float
    active: int
    idle: int
    queued: int
    #: Seconds that the first request in the queue has waited.
    longest_wait: float
    #: The number of requests that got a connection after a wait, and the sum of their waits in seconds.
    waited: int
    wait_time: float
    #: The number of active connections by state.
    held: Mapping[str, int]


class TopN(Generic[Item]):
    """Keep the ``limit`` items with the greatest keys, and count all items."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[Any, int, Item]] = []
        self.seen = 0

    def admits(self, key: Any) -> bool:
        """Count an item; return whether to call :meth:`add`."""
        self.seen += 1
        return len(self._heap) < self._limit or (bool(self._heap) and key > self._heap[0][0])

    def add(self, key: Any, item: Item) -> None:
        """Keep ``item``; at the limit, drop the item with the least key."""
        entry = key, self.seen, item
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    @property
    def items(self) -> list[Item]:
        """The kept items, the greatest first."""
        return [item for _, _, item in sorted(self._heap, reverse=True)]

    @property
    def left_out(self) -> int:
        """The number of items that were not kept."""
        return self.seen - len(self._heap)


class Snapshot:
    """The state of all connections, complete when both generators have ended.

    :meth:`geventnode.interfaces.IHTTPServer.statistics` explains the states of a server's connections. A connection of
    an agent is ``connecting``, ``waiting`` for a response, or ``receiving`` while a reader waits for more of the body.
    The response is ``unread`` when no reader waits. The connection is ``sending`` when the response arrived before the
    request was sent, ``delivering`` while listeners have a complete response, and ``discarding`` the rest of a
    destroyed response.

    :param rows: the number of rows of each table.
    :param excluded: responses of connections to leave out: the monitor's own.
    """

    def __init__(self, rows: int, excluded: Collection[Any] = ()) -> None:
        self._excluded = excluded
        self.began = monotonic()
        self.states: dict[str, int] = dict.fromkeys(ACTIVITIES, 0)
        #: The number of requests since the servers were created.
        self.requests = 0
        #: Bytes of unread input.
        self.buffered = 0
        self.received: TopN[Exchange] = TopN(rows)
        self.sent: TopN[Exchange] = TopN(rows)
        self.pools: TopN[PoolStatistics] = TopN(rows)

    def read_servers(self, servers: Iterable[Server]) -> Iterator[None]:
        """Read the connections of servers, one per step."""
        for server in servers:
            self.requests += server._past_requests
            self.buffered += server._buffer_limit.used
            for sink in server._protocols():
                if isinstance(sink, ServedConnection):
                    self._read_connection(sink)
                else:
                    self.states[activity_of(sink)] += 1
                yield

    def _read_connection(self, connection: ServedConnection) -> None:
        # also for a connection that has closed since: the server's total was read before
        self.requests += connection.served
        exchanges = list(connection.exchanges())
        if connection.closed or (exchanges and all(response in self._excluded for _, response, _, _ in exchanges)):
            return
        self.states[connection.activity] += 1
        for request, response, began, state in exchanges:
            if response not in self._excluded and self.received.admits(-began):
                self.received.add(-began, Exchange(connection.socket, request.method, request.url, state, began))

    def read_agents(self, agents: Mapping[Agent, str]) -> Iterator[None]:
        """Read the connections of named agents, one per step."""
        for agent, name in agents.items():
            for bucket in agent._buckets():
                yield from self._read_pool(agent, name, bucket)
                yield

    def _read_pool(self, agent: Agent, name: str, bucket: AgentBucket) -> Iterator[None]:
        held: Counter[str] = Counter()
        for connection in tuple(bucket.active):
            state = connection.activity
            held[state] += 1
            method, target, began = connection.current_exchange
            if self.sent.admits(-began):
                self.sent.add(-began, Exchange(connection.socket, method, target, state, began, name))
            yield
        if bucket.connecting:
            held['connecting'] += len(bucket.connecting)
        queued = len(bucket.queue)
        active = len(bucket.active) + len(bucket.connecting)
        key = queued, active
        if self.pools.admits(key):
            wait = monotonic() - next(iter(bucket.queue))._queued_at if queued else 0.0
            self.pools.add(
                key,
                PoolStatistics(
                    name,
                    bucket.name,
                    agent.max_sockets,
                    active,
                    len(bucket.idle),
                    queued,
                    wait,
                    bucket.waited,
                    bucket.wait_time,
                    held,
                ),
            )
