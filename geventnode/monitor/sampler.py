"""What the monitor shows, gathered for as long as somebody watches, and once for all who do.

Nothing is counted for every request. How many there were is known anyway, as the sum of what connections have served;
how long they take is measured for some: as many as :data:`SAMPLED` that begin after each tick of a timer, which is all
of them on a server that answers a few hundred in a second. The same timer shows how late the loop is.

Once a second there is a survey of all connections, some tenths of a millisecond of it at a time. With very many
connections there is one less often, so that surveys take about a hundredth of the time at most.
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
from geventnode.http.server.observers import ExchangeObserver, Sample
from geventnode.monitor.snapshot import Exchange, Survey, Top, Usage

__all__ = ['ROWS', 'Sampler', 'quantile', 'rest']

#: Seconds between two surveys, and how many connections there may be for each second between them. A look at one takes
#: about a microsecond; clocks do not tell, because machines lend their processors to others.
INTERVAL, PER_SECOND = 1.0, 10000

#: Seconds of a survey that go by before others get their turn, and for how long they then have it at least.
SLICE, PAUSE = 0.0003, 0.002

#: Seconds between two ticks, and exchanges that are measured after each.
TICK, SAMPLED = 0.05, 16

#: Seconds for which an exchange counts, and how many are kept.
WINDOW, KEPT = 10.0, 4096

#: Rows of each table.
ROWS = 50

#: Characters of a target, and of a name.
LONGEST = 200


class Sampler(ExchangeObserver):
    """Tells what there is, once a second, to everybody who watches.

    :param servers: returns the servers to look at.
    :param agents: returns the agents and their names.
    :param own: responses that do not count: those of the monitor itself.
    :param queries: whether to show the queries of targets.
    """

    def __init__(
        self,
        servers: Callable[[], Collection[Server]],
        agents: Callable[[], Mapping[Agent, str]],
        own: Collection[Any],
        queries: bool,
    ) -> None:
        self._servers = servers
        self._agents = agents
        self._own = own
        self._queries = queries
        #: Those to be woken, and who serves them.
        self._watchers: dict[Event, Server] = {}
        self._greenlet: gevent.Greenlet | None = None
        self._timer: Any = None
        self._ticked = 0.0
        self._lag = 0.0
        self._samples: dict[Server, Sample] = {}
        #: When exchanges have ended, and how long they took.
        self._durations: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._before: tuple[float, int] | None = None
        self._waits: dict[tuple[str, str], tuple[int, float]] = {}
        #: The last findings as JSON, and how many there were.
        self.latest = b''
        self.number = 0
        #: Whether the last findings have rates, for which it takes two surveys.
        self.complete = False

    # -- who watches ----------------------------------------------------------------------------------------------

    def watch(self, watcher: Event, server: Server) -> None:
        """Set ``watcher`` whenever there are new findings, or ``server`` drains, until :meth:`unwatch`."""
        self._watchers[watcher] = server
        if self._greenlet is None:
            self._ticked = monotonic()
            self._lag = 0.0
            # it keeps no loop alive
            self._timer = get_hub().loop.timer(TICK, TICK, ref=False)
            self._timer.start(self._tick)
            self._take_samples()
            self._greenlet = gevent.spawn(self._run)

    def unwatch(self, watcher: Event) -> None:
        """Undo :meth:`watch`; after the last one nothing is gathered any more."""
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
        self._waits.clear()
        self._before = None
        self.complete = False

    # -- exchanges, and the loop: run by the hub, or wherever an exchange ends ------------------------------------

    def _tick(self) -> None:
        now = monotonic()
        self._lag = max(self._lag, now - self._ticked - TICK)
        self._ticked = now
        self._take_samples()
        for watcher, server in self._watchers.items():
            if server.draining:
                watcher.set()

    def _take_samples(self) -> None:
        for server in self._servers():
            if server not in self._samples:
                self._samples[server] = Sample(server, self)
            self._samples[server].take(SAMPLED)

    def exchange_ended(self, response: Any, status_code: int) -> None:
        if response not in self._own:
            now = monotonic()
            self._durations.append((now, now - response.began))

    # -- surveys: run by a greenlet of their own ------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            survey = Survey(ROWS, self._own)
            looks = self._survey(survey)
            self._publish(survey)
            gevent.sleep(rest(looks, monotonic() - survey.began))

    def _survey(self, survey: Survey) -> int:
        """Look at everything, a little at a time; return how many looks that took. May switch."""
        looks = 0
        end = monotonic() + SLICE
        for steps in (survey.look_at_servers(self._servers()), survey.look_at_agents(self._agents())):
            for _ in steps:
                looks += 1
                if monotonic() > end:
                    # a turn of the loop at least: callbacks would run before anybody's input is looked at
                    gevent.sleep(PAUSE)
                    end = monotonic() + SLICE
        return looks

    def _publish(self, survey: Survey) -> None:
        self.latest = json.dumps(self._findings(survey), separators=(',', ':')).encode()
        self.number += 1
        for watcher in self._watchers:
            watcher.set()

    # -- findings -------------------------------------------------------------------------------------------------

    def _findings(self, survey: Survey) -> dict[str, Any]:
        now = monotonic()
        while self._durations and self._durations[0][0] < now - WINDOW:
            self._durations.popleft()
        durations = sorted(duration for _, duration in self._durations)
        before, self._before = self._before, (survey.began, survey.requests)
        self.complete = before is not None
        lag, self._lag = self._lag, 0.0
        waits, self._waits = self._waits, {}
        return {
            'version': __version__,
            'pid': os.getpid(),
            'time': round(time(), 3),
            'available': all(server.available for server in self._servers()),
            'interval': None if before is None else _rounded(survey.began - before[0]),
            'requests': {
                'total': survey.requests,
                'rate': None
                if before is None
                else round((survey.requests - before[1]) / (survey.began - before[0]), 1),
                'p50': _rounded(quantile(durations, 0.5)),
                'p99': _rounded(quantile(durations, 0.99)),
                'measured': len(durations),
            },
            'connections': survey.states,
            'buffered': survey.buffered,
            'loop_lag': _rounded(lag),
            'pools': _table(survey.pools, lambda usage: self._pool(usage, waits)),
            'received': _table(survey.received, lambda exchange: self._exchange(exchange, now)),
            'sent': _table(survey.sent, lambda exchange: self._exchange(exchange, now)),
        }

    def _pool(self, usage: Usage, before: Mapping[tuple[str, str], tuple[int, float]]) -> dict[str, Any]:
        key = usage.agent, usage.destination
        self._waits[key] = usage.waited, usage.wait_time
        waited, wait_time = before.get(key, (0, 0.0))
        waits = usage.waited - waited
        if waits < 0:
            # the destination was forgotten, and has begun anew
            waits, wait_time = usage.waited, 0.0
        return {
            'agent': usage.agent[:LONGEST],
            'destination': usage.destination[:LONGEST],
            'limit': None if usage.limit == inf else int(usage.limit),
            'in_use': usage.in_use,
            'idle': usage.idle,
            'queued': usage.queued,
            'longest_wait': _rounded(usage.longest_wait),
            'mean_wait': _rounded((usage.wait_time - wait_time) / waits) if waits else None,
            'held': usage.held,
        }

    def _exchange(self, exchange: Exchange, now: float) -> dict[str, Any]:
        target = exchange.target
        if target is not None:
            path, mark, query = target.partition('?')
            target = path + mark + (query if self._queries else '…' if mark else '')
            if len(target) > LONGEST:
                target = f'{target[:LONGEST]}…'
        host, port = exchange.socket.remote_address, exchange.socket.remote_port
        peer = None if host is None else f'[{host}]:{port}' if ':' in host else f'{host}:{port}'
        found = {
            'peer': peer,
            'method': exchange.method and exchange.method[:LONGEST],
            'target': target,
            'state': exchange.state,
            'age': _rounded(max(now - exchange.began, 0.0)),
        }
        return {'agent': exchange.agent[:LONGEST], **found} if exchange.agent else found


def _table(top: Top[Any], row: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    return {'count': top.seen, 'left_out': top.left_out, 'rows': [row(item) for item in top.items]}


def rest(looks: int, passed: float) -> float:
    """Return how many seconds to wait after a survey of so many looks, which was over when so many seconds had
    passed."""
    return max(INTERVAL - passed, looks / PER_SECOND - passed, PAUSE)


def quantile(values: list[float], share: float) -> float | None:
    """Return the least of the sorted ``values`` that ``share`` of them do not exceed; None for no values."""
    return values[ceil(len(values) * share) - 1] if values else None


def _rounded(seconds: float | None) -> float | None:
    """Return so many seconds to the microsecond."""
    return None if seconds is None else round(seconds, 6)
