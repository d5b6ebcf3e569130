"""Metrics for Prometheus, through its own client library: servers, and the pools of agents.

Requests are counted as they end. Connections and pools are looked at: when somebody asks for the metrics, and once a
second, which is what others see of this process where several share their metrics through files
(``PROMETHEUS_MULTIPROC_DIR``, the library's own way for gunicorn and the like).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from time import monotonic
from typing import Any

from gevent import get_hub
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from geventnode.http import METHODS, Agent, IncomingMessage, Server, ServerResponse
from geventnode.http.server.observers import ExchangeObserver, observe_exchanges

__all__ = ['DURATIONS', 'Metrics']

#: Seconds: the upper ends of the buckets for durations.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: Seconds between two looks.
INTERVAL = 1.0

#: Whether processes share their metrics: the library looks at the same moment, when it is imported.
SHARED = not {'PROMETHEUS_MULTIPROC_DIR', 'prometheus_multiproc_dir'}.isdisjoint(os.environ)

#: Clients can send any token: whatever else there is has one name.
_METHODS = frozenset(METHODS)

#: Counts of an agent, and what they are called.
_AGENT_COUNTS = {
    'requests': ('requests', 'Requests made.'),
    'failed': ('requests_failed', 'Requests that had no response.'),
    'retried': ('requests_retried', 'Requests that were sent a second time.'),
    'opened': ('connections_opened', 'Connections opened.'),
    'closed': ('connections_closed', 'Connections closed.'),
    'reused': ('connections_reused', 'Times that a connection served another request.'),
    'waited': ('waits', 'Requests that got a connection after having queued for one.'),
    'wait_time': ('wait_seconds', 'Seconds that they have queued.'),
}


class Metrics(ExchangeObserver):
    """Metrics of what it watches; and the request listener that answers with all metrics of the registry.

    One is made for each registry: names are taken then. It belongs to the hub of the thread that made it; where
    processes are forked, make it in each of them.

    :param registry: where the metrics are put.
    :param buckets: seconds, the upper ends of the buckets for durations.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, buckets: Sequence[float] = DURATIONS) -> None:
        self._registry = registry
        self._requests = Counter(
            'geventnode_http_requests',
            'Requests whose response has ended, by the status that the client saw.',
            ['method', 'status'],
            registry=registry,
        )
        self._duration = Histogram(
            'geventnode_http_request_duration_seconds',
            'From the whole head of a request to the end of its response.',
            ['method'],
            registry=registry,
            buckets=buckets,
        )
        self._in_progress = self._gauge('http_requests_in_progress', 'Requests whose response has not ended.')
        self._connections = self._gauge('connections', 'Connections of servers, by what they do.', 'state')
        self._refused = Counter(
            'geventnode_requests_refused',
            'Connections and requests that servers refused before they reached the '
            'application, and bodies that broke off.',
            ['reason'],
            registry=registry,
        )
        self._buffered = self._gauge('buffered_bytes', 'Unread input that servers hold.')
        self._pool = self._gauge('agent_connections', 'Connections of agents, in use or idle.', 'agent', 'state')
        self._queued = self._gauge('agent_requests_queued', 'Requests that wait for a connection.', 'agent')
        self._longest = Gauge(
            'geventnode_agent_longest_wait_seconds',
            'How long the first of them has waited.',
            ['agent'],
            registry=registry,
            multiprocess_mode='livemax',
        )
        self._counts = {
            key: Counter(f'geventnode_agent_{name}', help_text, ['agent'], registry=registry)
            for key, (name, help_text) in _AGENT_COUNTS.items()
        }
        #: How many requests each server had refused at the last look, by reason.
        self._servers: weakref.WeakKeyDictionary[Server, dict[str, int]] = weakref.WeakKeyDictionary()
        #: The name of each agent, and its counts at the last look.
        self._agents: weakref.WeakKeyDictionary[Agent, tuple[str, dict[str, float]]] = weakref.WeakKeyDictionary()
        #: What gauges were told for. It remains when they go that had it: a gauge keeps its last value until it is told
        #: another, and labels cannot be removed from files that processes share.
        self._states: set[str] = set()
        self._names: set[str] = set()
        # it keeps no loop alive, and no Metrics either
        timer = get_hub().loop.timer(INTERVAL, INTERVAL, ref=False, priority=-1)
        here: Any = weakref.ref(self)
        timer.start(_look, here)
        self._stop = weakref.finalize(self, _end, timer)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f'geventnode_{name}', help_text, labels, registry=self._registry, multiprocess_mode='livesum')

    # -- what is watched ------------------------------------------------------------------------------------------

    def watch_server(self, server: Server) -> None:
        """Count what ``server`` answers from now on, and its connections."""
        observe_exchanges(server, self)
        self._servers.setdefault(server, {})

    def watch_agent(self, agent: Agent, name: str = 'default') -> None:
        """Count what ``agent`` does, under this name, which several may share."""
        self._agents[agent] = name, {}
        self._names.add(name)

    def exchange_began(self, response: Any) -> None:
        self._in_progress.inc()

    def exchange_ended(self, response: Any, status_code: int) -> None:
        method = response.request.method
        if method not in _METHODS:
            method = 'other'
        self._in_progress.dec()
        self._requests.labels(method, status_code).inc()
        self._duration.labels(method).observe(monotonic() - response.began)

    def update(self) -> None:
        """Look at connections and pools now."""
        states = dict.fromkeys(self._states, 0)
        for server, before in tuple(self._servers.items()):
            refusals = self._servers[server] = server.refusals
            for reason, refused in refusals.items():
                self._refused.labels(reason).inc(refused - before.get(reason, 0))
            for state, count in server.statistics().items():
                states[state] = states.get(state, 0) + count
        self._buffered.set(states.pop('buffered', 0))
        for name in ('connections', 'refused'):
            states.pop(name, None)
        self._states.update(states)
        for state, count in states.items():
            self._connections.labels(state).set(count)
        pools: dict[str, dict[str, float]] = {
            name: {'active': 0, 'idle': 0, 'queued': 0, 'longest_wait': 0} for name in self._names
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
            self._pool.labels(name, 'in_use').set(total['active'])
            self._pool.labels(name, 'idle').set(total['idle'])
            self._queued.labels(name).set(total['queued'])
            self._longest.labels(name).set(total['longest_wait'])

    def close(self) -> None:
        """Look no more."""
        self._stop()

    # -- the answer -----------------------------------------------------------------------------------------------

    def __call__(self, request: IncomingMessage, response: ServerResponse) -> None:
        """Answer with the metrics of the registry, or of all processes where they share theirs; 405 for anything but
        GET and HEAD. May switch."""
        if request.method not in ('GET', 'HEAD'):
            response.write_head(405, {'Allow': 'GET, HEAD'})
            response.end()
            return
        self.update()
        registry = self._registry
        if SHARED:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library is typed in part
        encode, content_type = choose_encoder(request.headers.get('accept', ''))
        response.write_head(200, {'Content-Type': content_type})
        response.end(encode(registry))


def _look(metrics: weakref.ref[Metrics]) -> None:
    """Run by the timer, in the hub."""
    found = metrics()
    if found is not None:
        found.update()


def _end(timer: Any) -> None:
    timer.stop()
    timer.close()
