"""The monitor: what servers and the pools of agents do, as a page that draws it live, and as JSON.

It is a request listener, and one path is enough for it: the page is what it answers, ``?stream`` an event stream that
the page reads, ``?state`` the same once, as JSON. Nothing is gathered while nobody watches; all who watch share what
is gathered (see :mod:`geventnode.monitor.sampler`).

A stream sends the latest findings when the ones before have left, so that somebody who does not read costs one of them
and no more.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from gevent import get_hub
from gevent.event import Event

from geventnode.errors import InvalidInput
from geventnode.http import Agent, IncomingMessage, Server, ServerResponse
from geventnode.monitor.access import AccessPolicy, is_cross_site
from geventnode.monitor.page import Page
from geventnode.monitor.sampler import Sampler
from geventnode.net.forks import registered
from geventnode.net.threads import check_thread

__all__ = ['DEFAULT_PATH', 'MAX_WATCHERS', 'Monitor', 'check_path']

#: Where it is mounted unless said otherwise.
DEFAULT_PATH = '/monitor'

#: How many may watch at once.
MAX_WATCHERS = 8

#: Seconds after which a client may ask again that was one too many.
RETRY_AFTER = 5

#: Sent with everything: it is of this moment, and private.
_COMMON_FIELDS = {'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff'}


class Monitor:
    """A request listener that shows what servers and agents do. It tells private things: paths, addresses, names of
    hosts. So it answers clients on the same machine only, unless told otherwise, and 403 to everybody else.

    It belongs to the hub of the thread that made it.

    :param servers: what to look at; none: those that it is mounted on.
    :param agents: names for agents. Those without a name are shown, too, with a number.
    :param clients: IP addresses and networks (CIDR), and ``'unix'``, whose requests are answered. None: loopback
        addresses, when the request is for ``localhost`` or such an address, and names no proxy.
    :param max_watchers: how many may watch at once; more get 503.
    :param queries: whether to show the queries of targets, which may hold secrets.

    Raises ``TypeError`` and ``InvalidInput`` for wrong ``clients``, ``WrongThread`` for servers of another thread.
    """

    def __init__(
        self,
        *servers: Server,
        agents: Mapping[str, Agent] | None = None,
        clients: Iterable[Any] | None = None,
        max_watchers: int = MAX_WATCHERS,
        queries: bool = False,
    ) -> None:
        self._hub = get_hub()
        for server in servers:
            check_thread(server._hub, server)
        self._servers = servers
        self._mounted_on: weakref.WeakSet[Server] = weakref.WeakSet()
        self._names: weakref.WeakKeyDictionary[Agent, str] = weakref.WeakKeyDictionary()
        for name, agent in (agents or {}).items():
            self._names[agent] = name
        self._unnamed = 0
        self._access = AccessPolicy(clients)
        self._max_watchers = max_watchers
        #: The responses to those who watch.
        self._watching: set[ServerResponse] = set()
        self._sampler = Sampler(self._watched_servers, self._watched_agents, self._watching, queries)
        self._page = Page(Path(__file__).with_name('page.html'))

    def mount(self, server: Server, path: str = DEFAULT_PATH) -> Monitor:
        """Answer requests for ``path``, and hand all others to the present ``'request'`` listeners of ``server``; those
        that are added later hear of all requests. Return the monitor. Raises ``InvalidInput`` for what
        is no path."""
        check_path(path)
        listeners = server.listeners('request') or [_respond_unhandled]
        server.remove_all_listeners('request')
        server.on('request', self._dispatcher(listeners, path))
        self._mounted_on.add(server)
        return self

    def _dispatcher(self, listeners: list[Callable[..., Any]], path: str) -> Callable[[Any, Any], object]:
        if len(listeners) == 1:
            (listener,) = listeners
        else:

            def listener(request: Any, response: Any) -> None:
                for each in listeners:
                    each(request, response)

        def answer(request: Any, response: Any) -> object:
            url = request.url
            # the first question is the cheaper one, and each request is asked
            if path in url and url.partition('?')[0] == path:
                self(request, response)
                return None
            return listener(request, response)

        return answer

    # -- what is watched ------------------------------------------------------------------------------------------

    def _watched_servers(self) -> Collection[Server]:
        return self._servers or tuple(self._mounted_on)

    def _watched_agents(self) -> Mapping[Agent, str]:
        """Return all agents of this hub, by the names that they were given, or have from now on."""
        found = {}
        for agent in registered(Agent):
            if agent._hub is self._hub:
                name = self._names.get(agent)
                if name is None:
                    self._unnamed += 1
                    name = self._names[agent] = f'agent {self._unnamed}'
                found[agent] = name
        return found

    # -- each call runs in the greenlet of its request ------------------------------------------------------------

    def __call__(self, request: IncomingMessage, response: ServerResponse) -> None:
        """Answer with the page, or what the query asks for; 403 for those who may not look, 405 for anything but GET
        and HEAD, 503 when too many watch. May switch: a stream lasts until its client or the server want no more."""
        denial = self._access.denial(request)
        query = parse_qs((request.url or '').partition('?')[2], keep_blank_values=True)
        if denial is not None:
            _send_error(response, 403, denial)
        elif request.method not in ('GET', 'HEAD'):
            _send_error(response, 405, 'Methods that work here: GET, HEAD', {'Allow': 'GET, HEAD'})
        elif 'stream' not in query and 'state' not in query:
            response.write_head(200, {**_COMMON_FIELDS, **self._page.headers})
            response.end(self._page.body)
        elif is_cross_site(request):
            _send_error(response, 403, 'The monitor is not shown to pages of other sites')
        elif len(self._watching) >= self._max_watchers:
            _send_error(response, 503, f'{self._max_watchers} watch already', {'Retry-After': RETRY_AFTER})
        else:
            if not self._servers:
                self._mounted_on.add(response.server)
            self._watching.add(response)
            try:
                with contextlib.closing(self._snapshots(request, response)) as findings:
                    if 'stream' in query:
                        self._stream(request, response, findings)
                    else:
                        self._send_state(response, findings)
            finally:
                self._watching.discard(response)

    def _send_state(self, response: ServerResponse, findings: Iterator[None]) -> None:
        for _ in findings:
            if self._sampler.complete:
                response.write_head(200, {**_COMMON_FIELDS, 'Content-Type': 'application/json'})
                response.end(self._sampler.latest + b'\n')
                return
        _send_error(response, 503, 'The server closes')

    def _stream(self, request: IncomingMessage, response: ServerResponse, findings: Iterator[None]) -> None:
        response.write_head(
            200,
            {
                **_COMMON_FIELDS,
                'Content-Type': 'text/event-stream; charset=utf-8',
                # nginx would collect what should be seen at once
                'X-Accel-Buffering': 'no',
            },
        )
        if request.method == 'GET':
            response.flush_headers()
            for _ in findings:
                if not response.socket._has_queued:
                    response.write(b'data: %b\n\n' % self._sampler.latest)
        response.end()

    def _snapshots(self, request: IncomingMessage, response: ServerResponse) -> Generator[None, None, None]:
        """Yield whenever there are new ones, until client or server want no more."""
        wake = Event()
        response.once('close', wake.set)
        self._sampler.watch(wake, response.server)
        seen = -1 if self._sampler.complete else self._sampler.number
        try:
            while not request.aborted and not response.server.draining:
                if seen != self._sampler.number:
                    seen = self._sampler.number
                    yield
                wake.wait()
                wake.clear()
        finally:
            self._sampler.unwatch(wake)


def check_path(path: str) -> str:
    """Return ``path`` if a monitor can be mounted there. Raises ``InvalidInput``."""
    if not path.startswith('/') or not path.isascii() or not path.isprintable() or set(path) & set(' ?#'):
        raise InvalidInput(f'a monitor is mounted at a path that begins with a slash, without a query, not at {path!r}')
    return path


def _respond_unhandled(request: Any, response: Any) -> None:
    response.server._respond_unhandled(response)


def _send_error(
    response: ServerResponse, status_code: int, reason: str, fields: Mapping[str, Any] | None = None
) -> None:
    response.write_head(status_code, {**_COMMON_FIELDS, 'Content-Type': 'text/plain; charset=utf-8', **(fields or {})})
    response.end(f'{reason}\n')
