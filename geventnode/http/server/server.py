"""The HTTP server: its settings, its events, and how it drains.

The work is done by its connections; the server knows what they share: the limits, the idle workers, the line of those
that have more to do, and how much input all of them hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partialmethod
from time import monotonic
from typing import Any, ClassVar

import gevent
from zope.interface import implementer

from geventnode.errors import InvalidInput
from geventnode.events import EventEmitter, Listener
from geventnode.http.connection_log import ConnectionLog
from geventnode.http.incoming import IncomingMessage, describe_request
from geventnode.http.server.buffer_limit import ReceiveBufferLimit
from geventnode.http.server.connection import Connection, ConnectionState
from geventnode.http.server.deadlines import DISCARD_TIME, LINGER_TIME
from geventnode.http.server.error_response import error_response
from geventnode.http.server.listener_checks import check_listener, check_returned
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.run_queue import RunQueue
from geventnode.http.server.trace import TracedConnection
from geventnode.http.server.workers import MAX_IDLE, pool, trim
from geventnode.interfaces import IHTTPServer
from geventnode.net.deadlines import deadlines
from geventnode.net.proxy_protocol import proxies
from geventnode.net.server import Server as NetServer
from geventnode.net.socket import Socket
from geventnode.options import Option, apply_options, bytes_or_none, count, flag, seconds
from geventnode.protocol import ForwardedPolicy, Limits, RequestHead, TrustedProxies, forwarded_fields, scheme_fields

__all__ = ['RequestListener', 'Server', 'create_server']

log = logging.getLogger('geventnode.error')

#: One connection in so many is closed when there must be room for others.
MADE_ROOM = 20

RequestListener = Callable[[Any, Any], object]


@implementer(IHTTPServer)
class Server(NetServer):
    """See :class:`geventnode.interfaces.IHTTPServer`.

    :param listener: a listener for ``'request'``.
    :param options: any of the settings below, ``max_connections``, and ``request_class`` and
        ``response_class``, of which messages are made.
    """

    events: ClassVar[frozenset[str]] = NetServer.events | {
        'request',
        'checkContinue',
        'checkExpectation',
        'connect',
        'upgrade',
        'clientError',
        'timeout',
        'dropRequest',
    }

    _plain_options: ClassVar[tuple[str, ...]] = ('max_connections', 'request_class', 'response_class')

    timeout = Option(seconds, 120.0, 'Seconds without traffic after which a connection is given up; 0: never.')
    headers_timeout = Option(seconds, 60.0, 'Seconds for a whole head, from its first byte or from accepting.')
    request_timeout = Option(seconds, 300.0, 'Seconds for a whole request, body included.')
    min_body_rate = Option(
        count, 0, 'Bytes per second of a body, over each request_timeout, in place of a limit for the whole; 0: none.'
    )
    keep_alive_timeout = Option(seconds, 65.0, 'Seconds that an idle connection is kept after a response.')
    keep_alive_timeout_buffer = Option(
        seconds, 1.0, 'Seconds that it is kept beyond that, for requests that are on their way.'
    )
    max_header_size = Option(count, 16384, 'Bytes of a request line and its header section.')
    max_headers_count = Option(count, 1000, 'Fields in a header section; 0: as many as fit.')
    max_request_line = Option(bytes_or_none, None, 'Bytes of a request line; None: as many as a head may have.')
    max_field_size = Option(bytes_or_none, None, 'Bytes of a header field; None: as many as a head may have.')
    max_body_size = Option(bytes_or_none, None, 'Bytes of a request body; None: no limit.')
    max_requests_per_socket = Option(count, 0, 'Requests on one connection; 0: no limit.')
    max_unread_body = Option(count, 65536, 'Bytes of an unread body that are thrown away to keep a connection.')
    max_buffered = Option(count, 268435456, 'Bytes of unread input that all connections hold together.')
    cancel_on_disconnect = Option(flag, False, 'Throw ClientDisconnected into listeners whose client has gone.')
    max_idle_workers = Option(count, MAX_IDLE, 'Greenlets that are kept for the next request, on this thread.')
    greenlet_per_request = Option(flag, False, 'Run every request in a new greenlet.')
    debug_connections = Option(flag, False, 'Log what happens on each connection.')

    forwarded_headers: Option[tuple[str, ...]] = Option(
        forwarded_fields, (), 'Fields that every trusted proxy sets or removes.'
    )
    scheme_headers: Option[Mapping[str, str]] = Option(
        scheme_fields, {}, 'Fields of trusted proxies, and the values by which they say https.'
    )
    scheme_proxies: Option[tuple[str, ...]] = Option(
        proxies,
        (),
        "Whose scheme_headers are believed, by the address that connected; (): trusted_proxies, by the client's.",
    )

    request_class: type[IncomingMessage] = IncomingMessage
    response_class: type[ServerResponse] = ServerResponse
    _connection_class: type[Connection] = Connection
    multiprocess: bool = False
    #: ``max_idle_workers``, without the checks of an option.
    _idle_limit: int = MAX_IDLE
    #: Whether each request goes through :meth:`_dispatch_special`.
    _all_special: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.emit is not EventEmitter.emit:
            # whoever overrides it wants to see requests, too
            cls._dispatch = partialmethod(cls.emit, 'request')  # type: ignore[assignment,method-assign]

    def __init__(self, listener: RequestListener | None = None, **options: Any) -> None:
        super().__init__(allow_half_open=True)

        self._buffer_limit = ReceiveBufferLimit(self.max_buffered)
        self._run_queue = RunQueue(self._hub.loop)
        self._connection_log = ConnectionLog()
        #: Whether the server is on its way to close, and since when (monotonic).
        self.draining = False
        self._draining_since = 0.0
        #: How many requests the connections have made that are gone.
        self._past_requests = 0
        self._available = True
        self._on_option_changed()
        apply_options(self, options)
        if listener is not None:
            self.on('request', listener)

    def _on_option_changed(self) -> None:
        """Work out what connections look at for every request."""
        super()._on_option_changed()
        self._limits = Limits(
            max_header_size=self.max_header_size,
            max_headers_count=self.max_headers_count,
            max_body_size=self.max_body_size,
            max_request_line=self.max_request_line,
            max_field_size=self.max_field_size,
        )
        self._buffer_limit.limit = self.max_buffered
        #: What connections look at for every request, without the checks of an option.
        self._request_limit = self.max_requests_per_socket
        self._all_special = self._request_limit > 0
        self._cancels_listeners = self.cancel_on_disconnect
        #: No deadline can pass sooner than this after the beginning of what it belongs to.
        self._shortest_timeout = min(
            filter(
                None,
                (
                    DISCARD_TIME,
                    LINGER_TIME,
                    self.timeout,
                    self.headers_timeout,
                    self.request_timeout,
                    self.keep_alive_timeout,
                ),
            )
        )
        self._keep_alive_fields = 'Connection: keep-alive\r\n'
        if self.keep_alive_timeout:
            self._keep_alive_fields += f'Keep-Alive: timeout={int(self.keep_alive_timeout)}\r\n'
        self._idle_workers = None if self.greenlet_per_request else pool(self._hub)
        if self.max_idle_workers < self._idle_limit:
            trim(self._hub, self.max_idle_workers)
        self._idle_limit = self.max_idle_workers
        told = TracedConnection if self.debug_connections else Connection
        if self._connection_class is not told:
            # also those that are open: both classes keep the same
            self._connection_class = told
            for connection in self._connections():
                connection.__class__ = told
        self._forwarding = (
            None
            if not (self.forwarded_headers or self.scheme_headers)
            else ForwardedPolicy(
                TrustedProxies(self.trusted_proxies),
                self.forwarded_headers,
                self.scheme_headers,
                TrustedProxies(self.scheme_proxies) if self.scheme_proxies else None,
            )
        )

    @property
    def available(self) -> bool:
        return self._available and not self.draining

    @available.setter
    def available(self, available: bool) -> None:
        self._available = available

    def __call__(self, request: Any, response: Any) -> None:
        self._check_thread()
        if not self._dispatch(request, response):
            self._respond_unhandled(response)

    def _check(self, event: str, listener: Listener) -> None:
        super()._check(event, listener)
        if event in self.events:
            check_listener(event, listener)

    def set_timeout(self, seconds: float, callback: Callable[[Socket], object] | None = None) -> Server:
        self._check_thread()
        self.timeout = seconds
        if callback is not None:
            self.on('timeout', callback)
        return self

    # -- connections: run by the hub ------------------------------------------------------------------------------

    def _header_limit(self) -> tuple[float, str]:
        return self.headers_timeout, 'headers_timeout'

    def _check_settings(self) -> None:
        super()._check_settings()
        for name, believed in (
            ('forwarded_headers', self.trusted_proxies),
            ('scheme_headers', self.scheme_proxies or self.trusted_proxies),
        ):
            if getattr(self, name) and not believed:
                raise InvalidInput(f'{name} without trusted_proxies would be believed of nobody')

    def _listen_on(self, listener: Any, what: Any) -> Any:
        self.draining = False
        return super()._listen_on(listener, what)

    def _accepted(self, socket: Socket) -> None:
        if self.listener_count('connection'):
            # what arrives meanwhile waits in the socket
            socket._pause_reading()
            gevent.spawn(self._introduce, socket)
        else:
            self._connection_class(self, socket)

    def _unproxied(self, socket: Socket, error: Exception) -> None:
        super()._unproxied(socket, error)
        if self.listener_count('clientError'):
            gevent.spawn(self.emit, 'clientError', error, socket)

    def _introduce(self, socket: Socket) -> None:
        self._serve(socket)
        # in the hub, where workers are switched to: one that is switched to from here would not come back
        self._hub.loop.run_callback(self._begin, socket)

    def _begin(self, socket: Socket) -> None:
        if not socket.destroyed and not socket._did_read:
            self._connection_class(self, socket)
            socket._resume_reading()

    # -- requests: run by a worker --------------------------------------------------------------------------------

    def _dispatch(self, request: IncomingMessage, response: ServerResponse) -> bool:
        """Emit ``'request'``, and look at what the listeners return. May switch. Raises ``ListenerReturned`` for an
        answer among that when the response has not begun."""
        table = self._listeners
        if table is None or 'request' not in table:
            return False
        returned = None
        for listener in table['request']:
            value = listener(request, response)
            if value is not None:
                returned = listener, value
        if returned is not None and not response.headers_sent:
            check_returned(*returned)
        return True

    def _respond_unhandled(self, response: ServerResponse) -> None:
        """Answer a request that nobody listens for. May switch."""
        response.write_head(501)
        response.end()

    def _dispatch_special(
        self, connection: Connection, head: RequestHead, request: IncomingMessage, response: ServerResponse
    ) -> None:
        """Handle a request that is more, or less, than a plain one. Switches when listeners do."""
        if 0 < self._request_limit < connection.served:
            self.emit('dropRequest', request, connection.socket)
            response.should_keep_alive = False
            response.write_head(503)
            response.end()
        elif head.method == 'CONNECT':
            self._dispatch_upgrade('connect', connection, request)
        elif head.upgrade and request.complete and self.listener_count('upgrade'):
            # one with content is an ordinary request: a server may ignore Upgrade (RFC 9110, section 7.8)
            self._dispatch_upgrade('upgrade', connection, request)
        elif head.expect is None:
            if not self._dispatch(request, response):
                self._respond_unhandled(response)
        elif head.expect != '100-continue':
            if not self.emit('checkExpectation', request, response):
                # whether the body follows is anybody's guess (RFC 9110, section 10.1.1)
                response.should_keep_alive = False
                response.write_head(417)
                response.end()
        else:
            response._awaits_continue = not request.complete
            if not (self.emit('checkContinue', request, response) or self._dispatch(request, response)):
                self._respond_unhandled(response)

    def _dispatch_upgrade(self, event: str, connection: Connection, request: IncomingMessage) -> None:
        socket = connection.socket
        if not self.listener_count(event):
            connection.close_without_response()
            return
        # the answers to earlier requests
        socket._flush_now()
        if socket.destroyed:
            return
        rest = connection.upgrade()
        try:
            self.emit(event, request, socket, rest)
        except BaseException as error:
            socket.destroy()
            if not isinstance(error, (Exception, SystemExit)):
                raise
            log.error('%s: the %r listener failed', describe_request(request), event, exc_info=error)

    # -- closing --------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        super()._drain()
        self.draining = True
        self._draining_since = monotonic()
        for connection in self._connections():
            connection._expires = min(connection._expires, self._draining_since)
            if connection.state is ConnectionState.LINGERING:
                # the closing server waits for it
                deadlines(self._hub).watch(connection)

    def _connections(self) -> list[Connection]:
        return [socket._protocol for socket in self._sockets if isinstance(socket._protocol, Connection)]

    def _protocols(self) -> list[Any]:
        """Return what takes the input of each connection: one of HTTP, something else, or None."""
        return [socket._protocol for socket in self._sockets]

    def statistics(self) -> dict[str, int]:
        found: dict[str, int] = dict.fromkeys(('idle', 'reading', 'handling', 'writing', 'closing', 'upgraded'), 0)
        for socket in self._sockets:
            found[socket._protocol.activity if isinstance(socket._protocol, Connection) else 'upgraded'] += 1
        return {
            **found,
            'connections': len(self._sockets),
            'buffered': self._buffer_limit.used,
            'refused': self._peer_log.refusals.total(),
        }

    def close_idle_connections(self) -> None:
        self._check_thread()
        for connection in self._connections():
            if connection.idle:
                connection.close()

    def _make_room(self) -> bool:
        # A client may have sent a request that the loop has not reported: only those make room that have been idle for
        # a while. They are looked for once for many: the clients of a full server come in crowds.
        grace = self.keep_alive_timeout_buffer
        now = monotonic()
        idle = sorted((each for each in self._connections() if each.idle and each.served), key=_began)
        before = len(self._sockets)
        for connection in idle[: max(1, before // MADE_ROOM)]:
            if connection.began + grace > now:
                connection._expires = min(connection._expires, connection.began + grace)
            elif not connection.socket._poll_now():
                connection.socket.destroy()
        return len(self._sockets) < before

    def close_all_connections(self) -> None:
        self._check_thread()
        for socket in tuple(self._sockets):
            socket.destroy()

    def send_error(self, socket: Socket, status_code: int) -> None:
        """Send an error response on ``socket``, from a ``'clientError'`` listener; the connection closes then.

        :param status_code: such as 400; the body is its reason phrase.

        Raises ``ConnectionClosed`` if the socket is destroyed.
        """
        self._check_thread()
        socket._send(error_response(status_code))


def _began(connection: Connection) -> float:
    return connection.began


def create_server(listener: RequestListener | None = None, **options: Any) -> Server:
    """Return a :class:`Server`; ``listener`` hears of ``'request'``.

    Raises ``UnknownOption`` for an option that nobody knows, ``TypeError`` and ``InvalidInput`` for a bad value, and
    ``TypeError`` for a coroutine function, a generator function, or a WSGI application without ``wsgi()``.
    """
    return Server(listener, **options)
