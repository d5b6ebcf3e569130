"""Export metrics of servers and agents through Prometheus' own client library.

Requests are counted when their response ends. The gauges of connections and pools are updated for each scrape and once
a second. Other processes see the latter if several share their metrics through files (``PROMETHEUS_MULTIPROC_DIR``, the
library's method for gunicorn and other servers with several processes).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from time import monotonic
from typing import Any

from gevent import get_hub

from geventnode.extras import missing_package
from geventnode.http import METHODS, Agent, IncomingMessage, Server, ServerResponse
from geventnode.http.server.observers import ExchangeObserver, observe_exchanges

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.multiprocess import MultiProcessCollector
except ModuleNotFoundError as error:
    raise missing_package(error, __name__, 'prometheus') from error

__all__ = ['DURATIONS', 'Metrics']

#: The upper bounds of the buckets for durations, in seconds.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: Seconds between two updates of the gauges.
INTERVAL = 1.0

#: Whether processes share their metrics. The library reads the environment at its import, too.
MULTIPROCESS = not {'PROMETHEUS_MULTIPROC_DIR', 'prometheus_multiproc_dir'}.isdisjoint(os.environ)

#: The values of the label ``method``. Clients can send any token, and all others are ``other``.
_METHODS = frozenset(METHODS)

#: The name and the help text of the counter for each count of an agent.
_AGENT_COUNTS = {
    'requests': ('requests', 'Requests of the agent.'),
    'failed': ('requests_failed', 'Requests without a response.'),
    'retried': ('requests_retried', 'Requests sent a second time.'),
    'opened': ('connections_opened', 'Connections opened.'),
    'closed': ('connections_closed', 'Connections closed.'),
    'reused': ('connections_reused', 'Requests on a connection that had served another one.'),
    'waited': ('waits', 'Requests that waited in the queue for a connection.'),
    'wait_time': ('wait_seconds', 'Seconds that requests waited in the queue.'),
}


class Metrics(ExchangeObserver):
    """Collect metrics, and respond to scrapes.

    :meth:`watch_server` and :meth:`watch_agent` start the collection. The object is also a request listener that
    responds with all metrics of the registry. A registry allows only one, because its metrics have fixed names. It
    belongs to the hub of the thread that created it. After a fork, create one in each process.

    :param registry: the registry for the metrics.
    :param buckets: the upper bounds of the buckets for durations, in seconds.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, buckets: Sequence[float] = DURATIONS) -> None:
        self._registry = registry
        self._requests = Counter(
            'geventnode_http_requests',
            'Requests with a finished response, by the status that the client received.',
            ['method', 'status'],
            registry=registry,
        )
        self._duration = Histogram(
            'geventnode_http_request_duration_seconds',
            'Seconds from the complete head of a request to the end of its response.',
            ['method'],
            registry=registry,
            buckets=buckets,
        )
        self._in_progress = self._gauge('http_requests_in_progress', 'Requests without a finished response.')
        self._connections = self._gauge('connections', 'Connections of servers, by state.', 'state')
        self._refused = Counter(
            'geventnode_requests_refused',
            'Connections and requests that servers refused before they reached the application, and incomplete bodies.',
            ['reason'],
            registry=registry,
        )
        self._websockets = Counter('geventnode_websockets', 'WebSockets that servers have accepted.', registry=registry)
        self._websocket_messages = Counter(
            'geventnode_websocket_messages',
            'Messages of WebSockets of servers, by direction.',
            ['direction'],
            registry=registry,
        )
        self._websocket_bytes = Counter(
            'geventnode_websocket_message_bytes',
            'Bytes of these messages, before compression and after decompression.',
            ['direction'],
            registry=registry,
        )
        self._buffered = self._gauge('buffered_bytes', 'Bytes of unread input in the memory of servers.')
        self._pool = self._gauge('agent_connections', 'Connections of agents, active or idle.', 'agent', 'state')
        self._queued = self._gauge('agent_requests_queued', 'Requests in the queue for a connection.', 'agent')
        self._longest = Gauge(
            'geventnode_agent_longest_wait_seconds',
            'Seconds that the first request in the queue has waited.',
            ['agent'],
            registry=registry,
            multiprocess_mode='livemax',
        )
        self._counts = {
            key: Counter(f'geventnode_agent_{name}', help_text, ['agent'], registry=registry)
            for key, (name, help_text) in _AGENT_COUNTS.items()
        }
        #: The refusals of each server at the last update, by reason, and the counts of its WebSockets.
        self._servers: weakref.WeakKeyDictionary[Server, tuple[dict[str, int], dict[str, int]]]
        self._servers = weakref.WeakKeyDictionary()
        #: The name of each agent, and its counts at the last update.
        self._agents: weakref.WeakKeyDictionary[Agent, tuple[str, dict[str, float]]] = weakref.WeakKeyDictionary()
        #: The labels of gauges. They outlive their servers and agents: a gauge keeps its last value until it is set to
        #: 0, and labels cannot be removed from files that processes share.
        self._states: set[str] = set()
        self._agent_names: set[str] = set()
        # the timer keeps neither the loop running nor this object alive
        timer = get_hub().loop.timer(INTERVAL, INTERVAL, ref=False, priority=-1)
        reference: Any = weakref.ref(self)
        timer.start(_update, reference)
        self._stop = weakref.finalize(self, _close_timer, timer)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f'geventnode_{name}', help_text, labels, registry=self._registry, multiprocess_mode='livesum')

    # -- collection -----------------------------------------------------------------------------------------------

    def watch_server(self, server: Server) -> None:
        """Count the requests of ``server`` from now on, and its connections."""
        observe_exchanges(server, self)
        self._servers.setdefault(server, ({}, {}))

    def watch_agent(self, agent: Agent, name: str = 'default') -> None:
        """Count the requests and connections of ``agent``.

        :param name: the value of the label ``agent``. Several agents can share it. Another call changes the name.
        """
        _, counted = self._agents.get(agent, ('', {}))
        self._agents[agent] = name, counted
        self._agent_names.add(name)

    def exchange_began(self, response: Any) -> None:
        """Count a request in progress."""
        self._in_progress.inc()

    def exchange_ended(self, response: Any, status_code: int) -> None:
        """Count a finished request, with its duration."""
        method = response.request.method
        if method not in _METHODS:
            method = 'other'
        self._in_progress.dec()
        self._requests.labels(method, status_code).inc()
        self._duration.labels(method).observe(monotonic() - response.began)

    def update(self) -> None:
        """Update the gauges of connections and pools now."""
        states = dict.fromkeys(self._states, 0)
        for server, (before, websockets_before) in tuple(self._servers.items()):
            refusals, websockets = self._servers[server] = server.refusals, server.websocket_statistics()
            for reason, refused in refusals.items():
                self._refused.labels(reason).inc(refused - before.get(reason, 0))
            self._count_websockets({name: count - websockets_before.get(name, 0) for name, count in websockets.items()})
            for state, count in server.statistics().items():
                states[state] = states.get(state, 0) + count
        self._buffered.set(states.pop('buffered', 0))
        for name in ('connections', 'refused'):
            states.pop(name, None)
        self._states.update(states)
        for state, count in states.items():
            self._connections.labels(state).set(count)
        pools: dict[str, dict[str, float]] = {
            name: {'active': 0, 'idle': 0, 'queued': 0, 'longest_wait': 0} for name in self._agent_names
        }
        for agent, (name, counted) in self._agents.items():
            found = agent.statistics()
            for key, counter in self._counts.items():
                counter.labels(name).inc(found[key] - counted.get(key, 0))
            self._agents[agent] = name, found
            total = pools[name]
            for key in ('active', 'idle', 'queued'):
                total[key] += found[key]
            total['longest_wait'] = max(total['longest_wait'], found['longest_wait'])
        for name, total in pools.items():
            self._pool.labels(name, 'active').set(total['active'])
            self._pool.labels(name, 'idle').set(total['idle'])
            self._queued.labels(name).set(total['queued'])
            self._longest.labels(name).set(total['longest_wait'])

    def _count_websockets(self, new: dict[str, int]) -> None:
        """Add the counts since the last update."""
        self._websockets.inc(new['accepted'])
        for direction in ('received', 'sent'):
            self._websocket_messages.labels(direction).inc(new[f'messages_{direction}'])
            self._websocket_bytes.labels(direction).inc(new[f'bytes_{direction}'])

    def close(self) -> None:
        """Stop the updates once a second."""
        self._stop()

    # -- scrapes --------------------------------------------------------------------------------------------------

    def __call__(self, request: IncomingMessage, response: ServerResponse) -> None:
        """Respond with the metrics of the registry.

        If processes share their metrics, the response has those of all processes. Blocks until it is sent. Other
        methods than GET and HEAD get 405.
        """
        if request.method not in ('GET', 'HEAD'):
            response.write_head(405, {'Allow': 'GET, HEAD'})
            response.end()
            return
        self.update()
        registry = self._registry
        if MULTIPROCESS:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library is typed in part
        encode, content_type = choose_encoder(request.headers.get('accept', ''))
        response.write_head(200, {'Content-Type': content_type})
        response.end(encode(registry))


def _update(metrics: weakref.ref[Metrics]) -> None:
    """Update the gauges; the hub calls this from the timer."""
    found = metrics()
    if found is not None:
        found.update()


def _close_timer(timer: Any) -> None:
    timer.stop()
    timer.close()
