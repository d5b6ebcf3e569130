"""The demo's pages and streams.

Each stream waits on an event of its own, which is set when there is news, when its client disconnects, and when the
server stops. So a stream ends at once in both cases, and nothing polls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import gmtime, monotonic, strftime, time
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from gevent.event import Event

from geventnode.cli.demo.uploads import IDLE_TIMEOUT, TooManyUploads, Upload, Uploads
from geventnode.http import IncomingMessage, Server, ServerResponse
from geventnode.monitor.page import Page

__all__ = ['DemoServer', 'Route', 'create_server']


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

    def _drain(self) -> None:
        super()._drain()
        for wake in self._streams:
            wake.set()

    # -- handlers: each call runs in the greenlet of its request --------------------------------------------------

    def _handle(self, request: IncomingMessage, response: ServerResponse) -> None:
        response.set_header('X-Content-Type-Options', 'nosniff')
        target = urlsplit(request.url or '')
        route = ROUTES.get(target.path)
        if route is None:
            _send_text(response, 404, 'There is no such page; the demo is at /')
        elif request.method not in route.methods:
            allowed = ', '.join(route.methods)
            response.set_header('Allow', allowed)
            _send_text(response, 405, f'Methods that work here: {allowed}')
        else:
            identifiers = parse_qs(target.query).get('id')
            route.handler(self, request, response, identifiers[0] if identifiers else None)

    def _show_page(self, request: IncomingMessage, response: ServerResponse, identifier: str | None) -> None:
        response.write_head(200, {**self._page.headers, 'Cache-Control': 'no-cache'})
        response.end(self._page.body)

    def _show_request(self, request: IncomingMessage, response: ServerResponse, identifier: str | None) -> None:
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

    def _stream_ticks(self, request: IncomingMessage, response: ServerResponse, identifier: str | None) -> None:
        wake = Event()
        self._tickers.add(wake)
        try:
            for _ in self._moments(request, response, wake, ticking=True):
                _send_event(
                    response, {'time': strftime('%Y-%m-%dT%H:%M:%SZ', gmtime()), 'listeners': len(self._tickers)}
                )
        finally:
            self._tickers.discard(wake)
        response.end()

    def _stream_progress(self, request: IncomingMessage, response: ServerResponse, identifier: str | None) -> None:
        upload = self._find_upload(response, identifier or '')
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

    def _take_upload(self, request: IncomingMessage, response: ServerResponse, identifier: str | None) -> None:
        upload = Upload() if identifier is None else self._find_upload(response, identifier)
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

    # -- streams --------------------------------------------------------------------------------------------------

    def _moments(
        self, request: IncomingMessage, response: ServerResponse, wake: Event, *, ticking: bool = False
    ) -> Iterator[None]:
        """Begin an event stream, and yield whenever an event is due.

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
        try:
            while not request.aborted and not self.draining:
                wake.clear()
                yield
                # slightly after the full second, so that an early timer does not tick twice
                wake.wait(1.02 - time() % 1 if ticking else None)
        finally:
            self._streams.discard(wake)


# -- responses --------------------------------------------------------------------------------------------------------


def _send_text(response: ServerResponse, status_code: int, text: str) -> None:
    response.write_head(status_code, {'Content-Type': 'text/plain; charset=utf-8'})
    response.end(f'{text}\n')


def _send_json(response: ServerResponse, value: dict[str, Any]) -> None:
    response.write_head(200, {'Content-Type': 'application/json', 'Cache-Control': 'no-store'})
    response.end(f'{json.dumps(value, indent=2)}\n')


def _send_event(response: ServerResponse, value: dict[str, Any]) -> None:
    response.write(f'data: {json.dumps(value)}\n\n')


class Route(NamedTuple):
    """The methods and the handler of a path."""

    methods: tuple[str, ...]
    handler: Callable[[DemoServer, IncomingMessage, ServerResponse, str | None], None]


READING = 'GET', 'HEAD'

ROUTES = {
    '/': Route(READING, DemoServer._show_page),
    '/events': Route(READING, DemoServer._stream_ticks),
    '/progress': Route(READING, DemoServer._stream_progress),
    '/request': Route(READING, DemoServer._show_request),
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

    return SecureDemoServer(http2=http2, **tls)
