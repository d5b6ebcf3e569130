"""The demo's pages and streams.

Each stream waits on an event of its own, which is set when there is news, when its client disconnects, and when the
server stops. So a stream ends at once in both cases, and nothing polls.

A page of another site can make a browser send requests to a local server. So the only request that causes others, the
batch for the pool, is refused to such pages, and its size is bounded. A foreign page can also let its own name resolve
to 127.0.0.1 (DNS rebinding): to the browser it is a page of this server then. So a server that listens on a loopback
address serves only local names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import gmtime, monotonic, strftime, time
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import gevent
from gevent.event import Event

from geventnode import http
from geventnode.cli.demo.pool import DEFAULT_SOCKETS, MAX_BATCH, MAX_SOCKETS, DemoPool
from geventnode.cli.demo.uploads import IDLE_TIMEOUT, TooManyUploads, Upload, Uploads
from geventnode.errors import QueueFull
from geventnode.http import IncomingMessage, Server, ServerResponse
from geventnode.monitor.access import is_cross_site, is_local_host, is_loopback
from geventnode.monitor.page import Page

__all__ = ['DemoServer', 'Query', 'Route', 'create_server']

#: Seconds that the response to a request of the pool takes.
SLOWNESS = 0.2

#: Seconds for which a state that was read is used again, unless the pool has changed.
STATE_AGE = 0.5

#: Seconds from a change of the pool to the report, so that changes of one moment are one report.
PAUSE = 0.03

#: The scheme and the authority of a target in absolute-form (RFC 9112, section 3.2.2).
_authority = re.compile(r'^https?://[^/?]*', re.IGNORECASE)

#: The fields of a query, each with its values.
Query = dict[str, list[str]]


class DemoServer(Server):
    """An :class:`geventnode.http.Server` that serves the demo; closing it ends the streams."""

    def __init__(self, **options: Any) -> None:
        super().__init__(self._handle, **options)
        self._page = Page(Path(__file__).with_name('page.html'))
        self._uploads = Uploads()
        #: One event per open stream; setting it wakes the stream.
        self._streams: set[Event] = set()
        #: The events of the streams that tick.
        self._tickers: set[Event] = set()
        self._pool = self._make_pool()
        #: The last state, and when it was read (monotonic).
        self._state: dict[str, Any] = {}
        self._state_read = 0.0
        #: Whether the server listens on a loopback address, or did when it was closed.
        self._local_only = False

    def _make_pool(self) -> DemoPool:
        return DemoPool(http.Agent(), http.get, self._on_pool_changed)

    def _drain(self) -> None:
        super()._drain()
        self._pool.close()
        for wake in self._streams:
            wake.set()

    # -- the state of server and pool -----------------------------------------------------------------------------

    def _on_pool_changed(self) -> None:
        self._state_read = 0.0
        for wake in self._tickers:
            wake.set()

    def _current_state(self) -> dict[str, Any]:
        """Return the state for the page, which all streams share."""
        now = monotonic()
        if now - self._state_read > STATE_AGE:
            self._state = {'server': self.statistics(), 'pool': self._pool.state()}
            self._state_read = now
        return self._state

    # -- handlers: each call runs in the greenlet of its request --------------------------------------------------

    def _serves(self, host: str | None) -> bool:
        """Return whether the server serves requests for ``host``."""
        address = self.address()
        if address is not None:
            self._local_only = not isinstance(address, str) and is_loopback(address['address'])
        return not self._local_only or is_local_host(host)

    def _handle(self, request: IncomingMessage, response: ServerResponse) -> None:
        response.set_header('X-Content-Type-Options', 'nosniff')
        if not self._serves(request.host):
            text = f'The demo is shown as localhost, not as {request.host!r}; for other names, use --bind :PORT'
            _send_text(response, 403, text)
            return
        path, _, query = _authority.sub('', request.url or '', count=1).partition('?')
        route = ROUTES.get(path or '/')
        if route is None:
            _send_text(response, 404, 'There is no such page; the demo is at /')
        elif request.method not in route.methods:
            allowed = ', '.join(route.methods)
            response.set_header('Allow', allowed)
            _send_text(response, 405, f'Methods that work here: {allowed}')
        else:
            route.handler(self, request, response, parse_qs(query))

    def _show_page(self, request: IncomingMessage, response: ServerResponse, query: Query) -> None:
        response.write_head(200, {**self._page.headers, 'Cache-Control': 'no-cache'})
        response.end(self._page.body)

    def _show_request(self, request: IncomingMessage, response: ServerResponse, query: Query) -> None:
        _send_json(
            response,
            {
                'method': request.method,
                'url': request.url,
                'http_version': request.http_version,
                'remote_address': request.socket.remote_address,
                'raw_headers': request.raw_headers,
            },
        )

    def _stream_ticks(self, request: IncomingMessage, response: ServerResponse, query: Query) -> None:
        wake = Event()
        self._tickers.add(wake)
        last: dict[str, Any] = {}
        try:
            for ticked in self._moments(request, response, wake, ticking=True):
                if ticked:
                    _send_event(
                        response, {'time': strftime('%Y-%m-%dT%H:%M:%SZ', gmtime()), 'listeners': len(self._tickers)}
                    )
                else:
                    gevent.sleep(PAUSE)
                state = self._current_state()
                if state != last:
                    _send_event(response, state, 'state')
                    last = state
        finally:
            self._tickers.discard(wake)
        response.end()

    def _stream_progress(self, request: IncomingMessage, response: ServerResponse, query: Query) -> None:
        upload = self._find_upload(response, query.get('id', [''])[0])
        if upload is None:
            return
        wake = Event()
        upload.watch(wake)
        try:
            for _ in self._moments(request, response, wake):
                _send_event(response, {'state': upload.state, 'received': upload.received, 'total': upload.total})
                if upload.ended:
                    break
        finally:
            upload.unwatch(wake)
        response.end()

    def _take_upload(self, request: IncomingMessage, response: ServerResponse, query: Query) -> None:
        upload = self._find_upload(response, query['id'][0]) if 'id' in query else Upload()
        if upload is None:
            return
        if upload.state != 'waiting':
            _send_text(response, 409, 'The id of the upload was used before; choose another one')
            return
        began = monotonic()
        length = request.headers.get('content-length')
        upload.begin(None if length is None else int(length))
        try:
            for chunk in request:
                upload.add(len(chunk))
        finally:
            upload.end(complete=request.complete)
        _send_json(response, {'received': upload.received, 'seconds': round(monotonic() - began, 6)})

    def _find_upload(self, response: ServerResponse, identifier: str) -> Upload | None:
        """Return the upload called ``identifier``, or None after an error response."""
        try:
            return self._uploads.get(identifier)
        except ValueError as error:
            _send_text(response, 400, str(error))
        except TooManyUploads as error:
            response.set_header('Retry-After', int(IDLE_TIMEOUT))
            _send_text(response, 503, str(error))
        return None

    def _respond_slowly(self, request: IncomingMessage, response: ServerResponse, query: Query) -> None:
        closed = Event()
        response.once('close', closed.set)
        closed.wait(SLOWNESS)
        # also for a client that has disconnected: the connection ends with the response
        _send_text(response, 200, 'a slow response')

    def _send_batch(self, request: IncomingMessage, response: ServerResponse, query: Query) -> None:
        if is_cross_site(request):
            _send_text(response, 403, 'The pool makes no requests for pages of other sites')
            return
        if self.proxy_protocol:
            _send_text(
                response, 503, 'Connections to this server begin with a PROXY header, which the pool does not send'
            )
            return
        try:
            number = _number(query, 'requests', 1, MAX_BATCH)
            max_sockets = _number(query, 'max_sockets', DEFAULT_SOCKETS, MAX_SOCKETS)
        except ValueError as error:
            _send_text(response, 400, str(error))
            return
        target = self._own_target()
        if target is None:
            _send_text(response, 503, 'The server is shutting down')
            return
        try:
            result = self._pool.send(target, number, max_sockets, lambda give_up: response.once('close', give_up))
        except QueueFull as error:
            response.set_header('Retry-After', 10)
            _send_text(response, 503, f'Too many requests: {error}')
        except OSError as error:
            _send_text(response, 502, f'A request of the pool failed: {error}')
        else:
            _send_json(response, result)

    def _own_target(self) -> dict[str, Any] | None:
        """Return the options of a request to this server.

        None if it does not listen.
        """
        address = self.address()
        if address is None:
            return None
        if isinstance(address, str):
            return {'socket_path': address, 'path': '/slow'}
        host = {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(address['address'], address['address'])
        return {'host': host, 'port': address['port'], 'path': '/slow'}

    # -- streams --------------------------------------------------------------------------------------------------

    def _moments(
        self, request: IncomingMessage, response: ServerResponse, wake: Event, *, ticking: bool = False
    ) -> Iterator[bool]:
        """Begin an event stream, and yield whenever an event is due.

        The value is whether a full second has passed, or the stream has begun; if not, there is news.

        The iteration ends when the client disconnects or the server stops.

        :param wake: the event that wakes the stream.
        :param ticking: also yield after each full second.
        """
        response.once('close', wake.set)
        response.write_head(
            200,
            {
                'Content-Type': 'text/event-stream; charset=utf-8',
                'Cache-Control': 'no-store',
                # or else nginx would buffer the events
                'X-Accel-Buffering': 'no',
            },
        )
        if request.method == 'HEAD':
            return
        self._streams.add(wake)
        ticked, due = True, _next_tick()
        try:
            while not request.aborted and not self.draining:
                wake.clear()
                yield ticked
                # at most a second, because the clock can be set back
                ticked = not wake.wait(min(max(due - time(), 0), 1.02) if ticking else None)
                if ticked:
                    due = _next_tick()
        finally:
            self._streams.discard(wake)


# -- responses --------------------------------------------------------------------------------------------------------


def _send_text(response: ServerResponse, status_code: int, text: str) -> None:
    response.write_head(status_code, {'Content-Type': 'text/plain; charset=utf-8'})
    response.end(f'{text}\n')


def _send_json(response: ServerResponse, value: dict[str, Any]) -> None:
    response.write_head(200, {'Content-Type': 'application/json', 'Cache-Control': 'no-store'})
    response.end(f'{json.dumps(value, indent=2)}\n')


def _send_event(response: ServerResponse, value: dict[str, Any], name: str | None = None) -> None:
    prefix = '' if name is None else f'event: {name}\n'
    response.write(f'{prefix}data: {json.dumps(value)}\n\n')


def _next_tick() -> float:
    """Return the time of the next tick."""
    # slightly after the full second, so that an early timer does not tick twice
    return time() // 1 + 1.02


def _number(query: Query, name: str, default: int, limit: int) -> int:
    """Return a number from 1 to ``limit`` in the query. Raises ``ValueError``."""
    text = query.get(name, [str(default)])[0]
    if re.fullmatch('[0-9]{1,4}', text, re.ASCII) is None or not 1 <= int(text) <= limit:
        raise ValueError(f'{name} must be a whole number from 1 to {limit}, not {text[:20]!r}')
    return int(text)


class Route(NamedTuple):
    """The methods and the handler of a path."""

    methods: tuple[str, ...]
    handler: Callable[[DemoServer, IncomingMessage, ServerResponse, Query], None]


READING = 'GET', 'HEAD'

ROUTES = {
    '/': Route(READING, DemoServer._show_page),
    '/events': Route(READING, DemoServer._stream_ticks),
    '/pool': Route(('POST',), DemoServer._send_batch),
    '/progress': Route(READING, DemoServer._stream_progress),
    '/request': Route(READING, DemoServer._show_request),
    '/slow': Route(READING, DemoServer._respond_slowly),
    '/upload': Route(('POST', 'PUT'), DemoServer._take_upload),
}


def create_server(http2: bool = False, **tls: Any) -> DemoServer:
    """Return the demo's server; with options of TLS, an HTTPS server.

    :param http2: whether it serves HTTP/2, too.
    """
    if not tls:
        return DemoServer(http2=http2)
    from geventnode import https

    class SecureDemoServer(DemoServer, https.Server):
        events = DemoServer.events | https.Server.events

        def _make_pool(self) -> DemoPool:
            # the only peer is this server, with any certificate
            get = partial(https.get, reject_unauthorized=False)
            return DemoPool(https.Agent(), get, self._on_pool_changed)

    return SecureDemoServer(http2=http2, **tls)
