"""Show the state of servers and agents, as a page or JSON.

The monitor is a request listener, and one path is enough: without a query, the response is the page. With ``?stream``
it is the event stream that the page reads, and with ``?state`` one snapshot as JSON. The sampler runs only while
clients watch, once for all of them (see :mod:`geventnode.monitor.sampler`).

A stream sends the latest snapshot only after the previous one has left the process, so that a client that does not read
costs the memory of one snapshot.
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

#: The default path of the monitor.
DEFAULT_PATH = '/monitor'

#: The default limit for concurrent watchers.
MAX_WATCHERS = 8

#: Seconds until a client over the limit can try again.
RETRY_AFTER = 5

#: The header fields of every response: its content is private and must not be cached.
_COMMON_FIELDS = {'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff'}


class Monitor:
    """Show the state of servers and agents.

    The monitor is a request listener. It shows private data: paths, addresses, host names. So by default it responds to
    clients on the same machine only, and with 403 to all others. It belongs to the hub of the thread that created it.

    :param servers: the servers to show. By default, the servers with :meth:`mount` or a request to the monitor.
    :param agents: names for agents. All other agents of the thread are shown with a number.
    :param clients: allowed IP addresses and networks (CIDR), and ``'unix'``. None: loopback addresses, if the request
        is for ``localhost`` or a loopback address and has no field of a proxy.
    :param max_watchers: the limit for concurrent watchers. Others get 503.
    :param queries: whether to show the queries of URLs, which can contain secrets.

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
        #: The responses to the watchers.
        self._watching: set[ServerResponse] = set()
        self._sampler = Sampler(self._watched_servers, self._watched_agents, self._watching, queries)
        self._page = Page(Path(__file__).with_name('page.html'))

    def mount(self, server: Server, path: str = DEFAULT_PATH) -> Monitor:
        """Respond to requests for ``path`` on ``server``, and return the monitor.

        All other requests go to the current ``'request'`` listeners. Listeners that are added later are called for all
        requests.

        :param server: its ``'request'`` listeners are replaced by one that dispatches.
        :param path: begins with a slash, without a query.

        Raises ``InvalidInput`` for a wrong path.
        """
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
            # the cheap check first: this runs for every request
            if path in url and url.partition('?')[0] == path:
                self(request, response)
                return None
            return listener(request, response)

        return answer

    # -- servers and agents ---------------------------------------------------------------------------------------

    def _watched_servers(self) -> Collection[Server]:
        return self._servers or tuple(self._mounted_on)

    def _watched_agents(self) -> Mapping[Agent, str]:
        """Return the agents of this hub; number those without a name."""
        found = {}
        for agent in registered(Agent):
            if agent._hub is self._hub:
                name = self._names.get(agent)
                if name is None:
                    self._unnamed += 1
                    name = self._names[agent] = f'agent {self._unnamed}'
                found[agent] = name
        return found

    # -- requests: each runs in its own greenlet ------------------------------------------------------------------

    def __call__(self, request: IncomingMessage, response: ServerResponse) -> None:
        """Respond with the page, a stream or the state.

        Blocks until the response is sent; a stream ends when its client disconnects or the server drains. Denied
        clients get 403, other methods than GET and HEAD 405, watchers over the limit 503.
        """
        denial = self._access.denial(request)
        query = parse_qs((request.url or '').partition('?')[2], keep_blank_values=True)
        if denial is not None:
            _send_error(response, 403, denial)
        elif request.method not in ('GET', 'HEAD'):
            _send_error(response, 405, 'The monitor supports GET and HEAD', {'Allow': 'GET, HEAD'})
        elif 'stream' not in query and 'state' not in query:
            response.write_head(200, {**_COMMON_FIELDS, **self._page.headers})
            response.end(self._page.body)
        elif is_cross_site(request):
            _send_error(response, 403, 'The monitor is not shown to pages of other sites')
        elif len(self._watching) >= self._max_watchers:
            _send_error(
                response,
                503,
                f'The monitor has {self._max_watchers} watchers, its limit; try again later',
                {'Retry-After': RETRY_AFTER},
            )
        else:
            if not self._servers:
                self._mounted_on.add(response.server)
            self._watching.add(response)
            try:
                with contextlib.closing(self._snapshots(request, response)) as snapshots:
                    if 'stream' in query:
                        self._stream(request, response, snapshots)
                    else:
                        self._send_state(response, snapshots)
            finally:
                self._watching.discard(response)

    def _send_state(self, response: ServerResponse, snapshots: Iterator[None]) -> None:
        for _ in snapshots:
            if self._sampler.complete:
                response.write_head(200, {**_COMMON_FIELDS, 'Content-Type': 'application/json'})
                response.end(self._sampler.latest + b'\n')
                return
        _send_error(response, 503, 'The server is shutting down')

    def _stream(self, request: IncomingMessage, response: ServerResponse, snapshots: Iterator[None]) -> None:
        response.write_head(
            200,
            {
                **_COMMON_FIELDS,
                'Content-Type': 'text/event-stream; charset=utf-8',
                # nginx would buffer the stream
                'X-Accel-Buffering': 'no',
            },
        )
        if request.method == 'GET':
            response.flush_headers()
            for _ in snapshots:
                if not response.socket._has_queued:
                    response.write(b'data: %b\n\n' % self._sampler.latest)
        response.end()

    def _snapshots(self, request: IncomingMessage, response: ServerResponse) -> Generator[None, None, None]:
        """Yield for each snapshot until client or server end the response."""
        wakeup = Event()
        response.once('close', wakeup.set)
        self._sampler.watch(wakeup, response.server)
        last = -1 if self._sampler.complete else self._sampler.number
        try:
            while not request.aborted and not response.server.draining:
                if last != self._sampler.number:
                    last = self._sampler.number
                    yield
                wakeup.wait()
                wakeup.clear()
        finally:
            self._sampler.unwatch(wakeup)


def check_path(path: str) -> str:
    """Return ``path`` if it can be the path of a monitor. Raises ``InvalidInput``."""
    if not path.startswith('/') or not path.isascii() or not path.isprintable() or set(path) & set(' ?#'):
        raise InvalidInput(f'the path of a monitor must begin with a slash and have no query, not {path!r}')
    return path


def _respond_unhandled(request: Any, response: Any) -> None:
    response.server._respond_unhandled(response)


def _send_error(
    response: ServerResponse, status_code: int, reason: str, fields: Mapping[str, Any] | None = None
) -> None:
    response.write_head(status_code, {**_COMMON_FIELDS, 'Content-Type': 'text/plain; charset=utf-8', **(fields or {})})
    response.end(f'{reason}\n')
