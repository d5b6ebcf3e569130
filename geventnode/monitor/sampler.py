"""Gather the monitor's figures while clients watch, once for all of them.

No request pays for a counter. The number of requests is the sum of those that connections have served. Durations are
sampled: at most :data:`SAMPLES_PER_TICK` exchanges that begin after each tick of a timer, which is every exchange of a
server with a few hundred requests per second. The same timer measures the lag of the loop.

Once a second a snapshot of all connections is taken, in slices of some tenths of a millisecond. With very many
connections snapshots are less frequent, so that they take about one percent of the time at most.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Collection, Mapping
from math import ceil, inf
from time import monotonic, time
from typing import Any

import gevent
from gevent import get_hub
from gevent.event import Event

from geventnode import __version__
from geventnode.http import Agent, Server
from geventnode.http.server.observers import ExchangeObserver, ExchangeSampler
from geventnode.monitor.snapshot import Exchange, PoolStatistics, Snapshot, TopN

__all__ = ['ROWS', 'Sampler', 'pause_after', 'quantile']

#: Seconds between two snapshots, and the number of connections for each second of a longer interval. Reading one
#: connection takes about a microsecond. The count is used because measured time includes that of other processes.
INTERVAL, CONNECTIONS_PER_SECOND = 1.0, 10000

#: Seconds that a snapshot runs without a pause, and the length of the pause.
TIME_SLICE, PAUSE = 0.0003, 0.002

#: Seconds between two ticks, and the number of exchanges that are sampled after each.
TICK, SAMPLES_PER_TICK = 0.05, 16

#: Seconds for which a sampled duration is kept, and the largest number of them.
WINDOW, MAX_SAMPLES = 10.0, 4096

#: The number of rows in each table.
ROWS = 50

#: The number of characters of a URL or a name.
MAX_TEXT = 200


class Sampler(ExchangeObserver):
    """Render a snapshot once a second for all watchers.

    :param servers: returns the servers to show.
    :param agents: returns the agents to show, with their names.
    :param excluded: responses that are not counted: the monitor's own.
    :param queries: whether to show the queries of URLs.
    """

    def __init__(
        self,
        servers: Callable[[], Collection[Server]],
        agents: Callable[[], Mapping[Agent, str]],
        excluded: Collection[Any],
        queries: bool,
    ) -> None:
        self._servers = servers
        self._agents = agents
        self._excluded = excluded
        self._queries = queries
        #: The events of the watchers, with the servers of their connections.
        self._watchers: dict[Event, Server] = {}
        self._greenlet: gevent.Greenlet | None = None
        self._timer: Any = None
        self._last_tick = 0.0
        self._lag = 0.0
        self._samples: dict[Server, ExchangeSampler] = {}
        #: The end and the duration of each sampled exchange.
        self._durations: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)
        self._last_totals: tuple[float, int] | None = None
        self._last_waits: dict[tuple[str, str], tuple[int, float]] = {}
        #: The last snapshot as JSON, and the number of snapshots.
        self.latest = b''
        self.number = 0
        #: Whether the last snapshot has rates, which need a previous one.
        self.complete = False

    # -- watchers -------------------------------------------------------------------------------------------------

    def watch(self, watcher: Event, server: Server) -> None:
        """Set ``watcher`` for each snapshot and when ``server`` drains, until :meth:`unwatch`."""
        self._watchers[watcher] = server
        if self._greenlet is None:
            self._last_tick = monotonic()
            self._lag = 0.0
            # a timer without a reference does not keep the loop running
            self._timer = get_hub().loop.timer(TICK, TICK, ref=False)
            self._timer.start(self._tick)
            self._start_samples()
            self._greenlet = gevent.spawn(self._run)

    def unwatch(self, watcher: Event) -> None:
        """Undo :meth:`watch`, and stop after the last watcher."""
        self._watchers.pop(watcher, None)
        if self._watchers or self._greenlet is None:
            return
        self._greenlet.kill(block=False)
        self._greenlet = None
        self._timer.stop()
        self._timer.close()
        self._timer = None
        for sample in self._samples.values():
            sample.stop()
        self._samples.clear()
        self._durations.clear()
        self._last_waits.clear()
        self._last_totals = None
        self.complete = False

    # -- durations and lag: run by the hub, or by the greenlet that ends an exchange ------------------------------

    def _tick(self) -> None:
        now = monotonic()
        self._lag = max(self._lag, now - self._last_tick - TICK)
        self._last_tick = now
        self._start_samples()
        for watcher, server in self._watchers.items():
            if server.draining:
                watcher.set()

    def _start_samples(self) -> None:
        for server in self._servers():
            if server not in self._samples:
                self._samples[server] = ExchangeSampler(server, self)
            self._samples[server].take(SAMPLES_PER_TICK)

    def exchange_ended(self, response: Any, status_code: int) -> None:
        """Record the duration of a sampled exchange."""
        if response not in self._excluded:
            now = monotonic()
            self._durations.append((now, now - response.began))

    # -- snapshots: run by the sampler's greenlet -----------------------------------------------------------------

    def _run(self) -> None:
        while True:
            snapshot = Snapshot(ROWS, self._excluded)
            connections = self._take_snapshot(snapshot)
            self._publish(snapshot)
            gevent.sleep(pause_after(connections, monotonic() - snapshot.began))

    def _take_snapshot(self, snapshot: Snapshot) -> int:
        """Read all connections in slices, and return their number. Blocks until all are read."""
        connections = 0
        end = monotonic() + TIME_SLICE
        for steps in (snapshot.read_servers(self._servers()), snapshot.read_agents(self._agents())):
            for _ in steps:
                connections += 1
                if monotonic() > end:
                    # not sleep(0): its callback would run before the loop polls for input
                    gevent.sleep(PAUSE)
                    end = monotonic() + TIME_SLICE
        return connections

    def _publish(self, snapshot: Snapshot) -> None:
        self.latest = json.dumps(self._render(snapshot), separators=(',', ':')).encode()
        self.number += 1
        for watcher in self._watchers:
            watcher.set()

    # -- rendering ------------------------------------------------------------------------------------------------

    def _render(self, snapshot: Snapshot) -> dict[str, Any]:
        now = monotonic()
        while self._durations and self._durations[0][0] < now - WINDOW:
            self._durations.popleft()
        durations = sorted(duration for _, duration in self._durations)
        before, self._last_totals = self._last_totals, (snapshot.began, snapshot.requests)
        self.complete = before is not None
        lag, self._lag = self._lag, 0.0
        waits, self._last_waits = self._last_waits, {}
        return {
            'version': __version__,
            'pid': os.getpid(),
            'time': round(time(), 3),
            'available': all(server.available for server in self._servers()),
            'interval': None if before is None else _rounded(snapshot.began - before[0]),
            'requests': {
                'total': snapshot.requests,
                'rate': None
                if before is None
                else round((snapshot.requests - before[1]) / (snapshot.began - before[0]), 1),
                'p50': _rounded(quantile(durations, 0.5)),
                'p99': _rounded(quantile(durations, 0.99)),
                'measured': len(durations),
            },
            'connections': snapshot.states,
            'buffered': snapshot.buffered,
            'loop_lag': _rounded(lag),
            'pools': _rendered_table(snapshot.pools, lambda pool: self._pool(pool, waits)),
            'received': _rendered_table(snapshot.received, lambda exchange: self._exchange(exchange, now)),
            'sent': _rendered_table(snapshot.sent, lambda exchange: self._exchange(exchange, now)),
        }

    def _pool(self, pool: PoolStatistics, before: Mapping[tuple[str, str], tuple[int, float]]) -> dict[str, Any]:
        key = pool.agent, pool.origin
        self._last_waits[key] = pool.waited, pool.wait_time
        waited, wait_time = before.get(key, (0, 0.0))
        waits = pool.waited - waited
        if waits < 0:
            # the agent has removed the origin, and added it again
            waits, wait_time = pool.waited, 0.0
        return {
            'agent': pool.agent[:MAX_TEXT],
            'origin': pool.origin[:MAX_TEXT],
            'limit': None if pool.limit == inf else int(pool.limit),
            'active': pool.active,
            'idle': pool.idle,
            'queued': pool.queued,
            'longest_wait': _rounded(pool.longest_wait),
            'mean_wait': _rounded((pool.wait_time - wait_time) / waits) if waits else None,
            'held': pool.held,
        }

    def _exchange(self, exchange: Exchange, now: float) -> dict[str, Any]:
        target = exchange.target
        if target is not None:
            path, mark, query = target.partition('?')
            target = path + mark + (query if self._queries else '…' if mark else '')
            if len(target) > MAX_TEXT:
                target = f'{target[:MAX_TEXT]}…'
        host, port = exchange.socket.remote_address, exchange.socket.remote_port
        peer = None if host is None else f'[{host}]:{port}' if ':' in host else f'{host}:{port}'
        row = {
            'peer': peer,
            'method': exchange.method and exchange.method[:MAX_TEXT],
            'target': target,
            'state': exchange.state,
            'age': _rounded(max(now - exchange.began, 0.0)),
        }
        return {'agent': exchange.agent[:MAX_TEXT], **row} if exchange.agent else row


def _rendered_table(top: TopN[Any], row: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    return {'count': top.seen, 'left_out': top.left_out, 'rows': [row(item) for item in top.items]}


def pause_after(connections: int, passed: float) -> float:
    """Return the seconds to pause after a snapshot.

    :param connections: the number of connections in it.
    :param passed: the seconds that it took.
    """
    return max(INTERVAL - passed, connections / CONNECTIONS_PER_SECOND - passed, PAUSE)


def quantile(values: list[float], share: float) -> float | None:
    """Return the quantile ``share`` (0 to 1) of sorted ``values``, or None."""
    return values[ceil(len(values) * share) - 1] if values else None


def _rounded(seconds: float | None) -> float | None:
    """Return ``seconds`` rounded to microseconds."""
    return None if seconds is None else round(seconds, 6)
