"""Surveys: what the connections of servers and agents do, looked at a few at a time.

There may be tens of thousands of them, and the loop must not stand still while somebody counts. So a survey is a
generator that gives its caller a chance to let others run after each connection; only names are listed at once, which
takes a microsecond for dozens of them. What was looked at first is older than what came last: it is no snapshot.

Tables are bounded. Of requests under way those that have taken longest are kept, of pools those with the longest
queues.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

from geventnode.http.client.agent import Agent, AgentBucket
from geventnode.http.server.connection import Connection, ConnectionState
from geventnode.http.server.server import Server

__all__ = ['Exchange', 'PoolStatistics', 'Snapshot', 'TopN']

Item = TypeVar('Item')


class Exchange(NamedTuple):
    """A request under way."""

    #: The socket that it came on, or goes over.
    socket: Any
    #: None where that is not known any more.
    method: str | None
    target: str | None
    #: See :class:`Snapshot`.
    state: str
    #: When its head had come, or it got its connection (monotonic).
    began: float
    #: The agent's name; '' on a server.
    agent: str = ''


class PoolStatistics(NamedTuple):
    """What an agent has for one destination."""

    agent: str
    destination: str
    #: Connections that there may be.
    limit: float
    in_use: int
    idle: int
    queued: int
    #: Seconds that the first of the queued has waited.
    longest_wait: float
    #: Requests that got a connection after having queued, and how many seconds in all.
    waited: int
    wait_time: float
    #: How many of those in use do what.
    held: Mapping[str, int]


class TopN(Generic[Item]):
    """The ``most`` items with the greatest keys, and how many there were."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[Any, int, Item]] = []
        self.seen = 0

    def admits(self, key: Any) -> bool:
        """Count an item; return whether it is to be added."""
        self.seen += 1
        return len(self._heap) < self._most or (bool(self._heap) and key > self._heap[0][0])

    def add(self, key: Any, item: Item) -> None:
        """Keep ``item``, in the place of the least one when there are enough."""
        entry = key, self.seen, item
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    @property
    def items(self) -> list[Item]:
        """What was kept, the greatest first."""
        return [item for _, _, item in sorted(self._heap, reverse=True)]

    @property
    def left_out(self) -> int:
        """How many were not kept."""
        return self.seen - len(self._heap)


class Snapshot:
    """The findings of one survey, complete when the generators have ended.

    A server's connections do what :meth:`geventnode.interfaces.IHTTPServer.statistics` says. One of an agent is
    ``connecting``; it is ``waiting`` for a response, ``receiving`` for a reader, or its response is ``unread``: no
    reader waits for more of it. It is ``sending`` when the response came before the request was sent, ``delivering``
    while listeners have a response that is complete, and ``discarding`` the rest of a response that was given up.

    :param most: rows of each table.
    :param excluded: responses whose connections are left out everywhere: those of whoever asks.
    """

    def __init__(self, most: int, excluded: Collection[Any] = ()) -> None:
        self._most = most
        self._excluded = excluded
        self.began = monotonic()
        self.states: dict[str, int] = dict.fromkeys(
            ('idle', 'reading', 'handling', 'writing', 'closing', 'upgraded'), 0
        )
        #: How many requests have come since the servers were made.
        self.requests = 0
        #: Bytes of unread input.
        self.buffered = 0
        self.received: TopN[Exchange] = TopN(most)
        self.sent: TopN[Exchange] = TopN(most)
        self.pools: TopN[PoolStatistics] = TopN(most)

    def read_servers(self, servers: Iterable[Server]) -> Iterator[None]:
        """Look at one connection after another."""
        for server in servers:
            self.requests += server._past_requests
            self.buffered += server._buffer_limit.used
            for sink in server._protocols():
                if isinstance(sink, Connection):
                    self._read_connection(sink)
                else:
                    self.states['upgraded'] += 1
                yield

    def _read_connection(self, connection: Connection) -> None:
        # those of one that has gone meanwhile were not among its server's past ones
        self.requests += connection.served
        request = connection.request
        if connection.state is ConnectionState.CLOSED or (
            request is not None and connection.response in self._excluded
        ):
            return
        state = connection.activity
        self.states[state] += 1
        if request is not None and self.received.admits(-connection.began):
            self.received.add(
                -connection.began, Exchange(connection.socket, request.method, request.url, state, connection.began)
            )

    def read_agents(self, agents: Mapping[Agent, str]) -> Iterator[None]:
        """Look at one connection after another of agents that have these names."""
        for agent, name in agents.items():
            for bucket in agent._buckets():
                yield from self._read_pool(agent, name, bucket)
                yield

    def _read_pool(self, agent: Agent, name: str, bucket: AgentBucket) -> Iterator[None]:
        held: Counter[str] = Counter()
        for connection in tuple(bucket.busy):
            state = connection.activity
            held[state] += 1
            method, target, began = connection.current_exchange
            if self.sent.admits(-began):
                self.sent.add(-began, Exchange(connection.socket, method, target, state, began, name))
            yield
        if bucket.connecting:
            held['connecting'] += len(bucket.connecting)
        queued = len(bucket.queue)
        in_use = len(bucket.busy) + len(bucket.connecting)
        key = queued, in_use
        if self.pools.admits(key):
            wait = monotonic() - next(iter(bucket.queue))._queued_at if queued else 0.0
            self.pools.add(
                key,
                PoolStatistics(
                    name,
                    bucket.name,
                    agent.max_sockets,
                    in_use,
                    len(bucket.idle),
                    queued,
                    wait,
                    bucket.waited,
                    bucket.wait_time,
                    held,
                ),
            )
