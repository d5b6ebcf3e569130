"""The HTTP server: its settings, its events, and how it drains.

Its connections do the work. The server has the state that they share: the limits, the idle workers, the run queue, and
the number of bytes that all of them buffer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partialmethod
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, TypeVar

import gevent
from zope.interface import implementer

from geventnode.errors import InvalidInput, WebSocketHandshakeError
from geventnode.events import EventEmitter, Listener
from geventnode.http.body_reader import DISCARD_TIME
from geventnode.http.connection_log import ConnectionLog
from geventnode.http.incoming import IncomingMessage, describe_request
from geventnode.http.server.buffer_limit import ReceiveBufferLimit
from geventnode.http.server.connection import Connection
from geventnode.http.server.deadlines import LINGER_TIME
from geventnode.http.server.error_response import error_response
from geventnode.http.server.listener_checks import check_listener, check_returned
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.run_queue import RunQueue
from geventnode.http.server.served import ServedConnection
from geventnode.http.server.trace import TracedConnection
from geventnode.http.server.upgraded import UpgradedConnection, WebSocketCounts
from geventnode.http.server.workers import MAX_IDLE, idle_workers, limit_idle_workers
from geventnode.interfaces import IHTTPServer
from geventnode.net.proxy_protocol import parse_proxies
from geventnode.net.server import Server as NetServer
from geventnode.net.socket import Socket
from geventnode.options import Option, apply_options, between, bytes_or_none, count, flag, seconds
from geventnode.protocol import ForwardedPolicy, Limits, RequestHead, TrustedProxies, forwarded_fields, scheme_fields

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ['ACTIVITIES', 'RequestListener', 'Server', 'ServerOptions', 'activity_of', 'create_server']

Self = TypeVar('Self', bound='Server')

log = logging.getLogger('geventnode.error')

#: At ``max_connections``, up to one of this number of connections is closed to make room for others.
ROOM_FRACTION = 20

#: The activities of connections in the statistics.
ACTIVITIES = 'idle', 'reading', 'handling', 'writing', 'closing', 'websocket', 'upgraded'

RequestListener = Callable[[Any, Any], object]


class ServerOptions(TypedDict, total=False):
    """The options of :func:`create_server`; each is an attribute of :class:`Server`."""

    cancel_on_disconnect: bool
    debug_connections: bool
    forwarded_headers: Any
    greenlet_per_request: bool
    headers_timeout: float
    http2: bool
    http2_flood_window: float
    http2_initial_window_size: int
    http2_max_concurrent_streams: int
    http2_max_continuations: int
    http2_max_control_frames: int
    http2_max_empty_frames: int
    http2_max_frame_size: int
    http2_max_header_list_size: int | None
    http2_max_resets: int
    http2_max_window_size: int
    http2_max_window_updates: int
    keep_alive_timeout: float
    keep_alive_timeout_buffer: float
    max_body_size: int | None
    max_buffered: int
    max_connections: int | None
    max_field_size: int | None
    max_header_size: int
    max_headers_count: int
    max_idle_workers: int
    max_request_line: int | None
    max_requests_per_socket: int
    max_unread_body: int
    min_body_rate: int
    proxy_protocol: bool
    request_class: type
    request_timeout: float
    response_class: type
    scheme_headers: Any
    scheme_proxies: Any
    should_upgrade_callback: Callable[[IncomingMessage], object] | None
    timeout: float
    trusted_proxies: Any
    wait_when_full: bool


def _check_callback(name: str, value: Any) -> Callable[..., object] | None:
    """Return ``value``, which must be callable or None."""
    if value is not None and not callable(value):
        raise TypeError(f'{name} must be callable or None, not {type(value).__name__}')
    callback: Callable[..., object] | None = value
    return callback


@implementer(IHTTPServer)
class Server(NetServer):
    """An HTTP/1.1 server, after Node's ``http.Server``; :func:`create_server` makes one.

    :param listener: a listener for ``'request'``.
    :param options: any of the settings below, ``max_connections``, ``request_class`` and ``response_class``. Each is
        also an attribute that can be set later; times are seconds, sizes bytes.

    Raises ``UnknownOption`` for a misspelled option, ``TypeError`` and ``InvalidInput`` for a bad value.

    Emits, besides the events of :class:`geventnode.net.Server`, ``'request'`` (request, response), ``'checkContinue'``
    (request, response), ``'checkExpectation'`` (request, response), ``'connect'`` (request, socket, head),
    ``'upgrade'`` (request, socket, head), ``'clientError'`` (exception, socket), ``'sessionError'`` (exception, socket)
    for connections of HTTP/2, ``'timeout'`` (socket), and ``'dropRequest'`` (request, socket).

    A listener for ``'request'`` calls methods of the response, before it returns or later. It is an error to return a
    response instead (text, bytes, a dict, list, tuple, generator or awaitable): the error is logged, and the client
    gets 500. Listeners that would never run raise ``TypeError`` when they are added: coroutine functions and generator
    functions. So does a WSGI application as a listener for ``'request'``; its parameters are recognized by their names,
    as :func:`geventnode.integrations.wsgi.is_wsgi` does.

    An exception of a listener ends only its own exchange. It is logged, and the client gets 500. If the head was sent,
    the connection ends instead, unless the response has all of its declared length. That includes ``SystemExit``:
    ``sys.exit()`` in a listener would end all other exchanges. gevent handles ``KeyboardInterrupt`` and
    ``GreenletExit``.
    """

    events: ClassVar[frozenset[str]] = NetServer.events | {
        'request',
        'checkContinue',
        'checkExpectation',
        'connect',
        'upgrade',
        'clientError',
        'sessionError',
        'timeout',
        'dropRequest',
    }

    _plain_options: ClassVar[tuple[str, ...]] = ('max_connections', 'request_class', 'response_class')

    timeout = Option(seconds, 120.0, 'Seconds without traffic after which a connection is closed; 0: no limit.')
    headers_timeout = Option(seconds, 60.0, 'Seconds for a whole head, from its first byte or from accepting.')
    request_timeout = Option(seconds, 300.0, 'Seconds for a whole request, body included.')
    min_body_rate = Option(
        count, 0, 'Minimum bytes per second of a body, over each request_timeout; 0: that limits the whole request.'
    )
    keep_alive_timeout = Option(seconds, 65.0, 'Seconds that an idle connection is kept after a response.')
    keep_alive_timeout_buffer = Option(
        seconds, 1.0, 'Seconds that it is kept beyond keep_alive_timeout, for requests that are on their way.'
    )
    max_header_size = Option(count, 16384, 'Bytes of a request line and its header section.')
    max_headers_count = Option(count, 1000, 'Fields in a header section; 0: as many as fit.')
    max_request_line = Option(bytes_or_none, None, 'Bytes of a request line; None: as for the head.')
    max_field_size = Option(bytes_or_none, None, 'Bytes of a header field; None: as for the head.')
    max_body_size = Option(bytes_or_none, None, 'Bytes of a request body; None: no limit.')
    max_requests_per_socket = Option(count, 0, 'Requests on one connection; 0: no limit.')
    max_unread_body = Option(count, 65536, 'Bytes of an unread body that are discarded to keep a connection.')
    max_buffered = Option(count, 268435456, 'Bytes of unread input that all connections hold together.')
    cancel_on_disconnect = Option(flag, False, 'Throw ClientDisconnected into a listener when its client disconnects.')
    max_idle_workers = Option(count, MAX_IDLE, 'Greenlets that are kept for the next request, on this thread.')
    greenlet_per_request = Option(flag, False, 'Run every request in a new greenlet.')
    debug_connections = Option(flag, False, 'Log the events of each connection.')
    should_upgrade_callback: Option[Callable[[IncomingMessage], object] | None] = Option(
        _check_callback, None, "Returns whether a request is for the 'upgrade' listeners."
    )

    http2 = Option(flag, False, 'Serve HTTP/2, too; needs the extra http2.')
    http2_max_concurrent_streams = Option(
        between(1, 2**31 - 1), 100, 'Requests of one HTTP/2 connection at the same time; more are refused.'
    )
    http2_initial_window_size = Option(
        between(1, 2**31 - 1), 65535, 'Bytes of an HTTP/2 request body that are accepted before any was read.'
    )
    http2_max_window_size = Option(
        between(1, 2**31 - 1), 1048576, 'The same, of a body that the listener has read as fast as it arrived.'
    )
    http2_max_frame_size = Option(between(16384, 2**24 - 1), 16384, 'Bytes of the largest frame that is accepted.')
    http2_max_header_list_size = Option(
        bytes_or_none, None, 'Bytes of the fields of an HTTP/2 request, and 32 for each; None: max_header_size.'
    )
    http2_max_continuations = Option(count, 16, 'CONTINUATION frames of one head.')
    http2_flood_window = Option(seconds, 10.0, 'Seconds in which the next limits count.')
    http2_max_resets = Option(count, 500, 'Streams that a client resets, or makes the server reset.')
    http2_max_control_frames = Option(count, 1000, 'PING, SETTINGS and PRIORITY frames, and frames of unknown types.')
    http2_max_empty_frames = Option(count, 100, 'DATA frames without data, and empty parts of a head.')
    http2_max_window_updates = Option(count, 1000, 'WINDOW_UPDATE frames, beyond ten for each DATA frame sent.')

    forwarded_headers: Option[Sequence[str]] = Option(
        forwarded_fields, (), 'Fields that every trusted proxy sets or removes.'
    )
    scheme_headers: Option[Mapping[str, str]] = Option(
        scheme_fields, {}, 'Fields of trusted proxies, and their values that mean https.'
    )
    scheme_proxies: Option[Sequence[Any]] = Option(
        parse_proxies,
        (),
        "Connecting addresses with trusted scheme_headers; (): trusted_proxies, by the client's address.",
    )

    request_class: type[IncomingMessage] = IncomingMessage
    response_class: type[ServerResponse] = ServerResponse
    _connection_class: type[Connection] = Connection
    #: Begins to serve a new connection: the class of connections or, with HTTP/2, a function that chooses one.
    _accept_connection: Callable[[Any, Socket], object] = Connection
    #: The limits of HTTP/2 connections; None without HTTP/2.
    _http2_limits: Any = None
    #: Begins or ends tracing an HTTP/2 connection; None without HTTP/2.
    _trace_http2: Callable[[Any, bool], None] | None = None
    #: Whether other processes run the same application: ``wsgi.multiprocess``.
    multiprocess: bool = False
    #: ``max_idle_workers``, without the checks of an option.
    _idle_limit: int = MAX_IDLE
    #: Whether each request goes through :meth:`_dispatch_special`.
    _all_special: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.emit is not EventEmitter.emit:
            # so that a subclass that overrides it sees requests, too
            cls._dispatch = partialmethod(cls.emit, 'request')  # type: ignore[assignment,method-assign]

    def __init__(self, listener: RequestListener | None = None, **options: Any) -> None:
        super().__init__(allow_half_open=True)

        self._buffer_limit = ReceiveBufferLimit(self.max_buffered)
        self._run_queue = RunQueue(self._hub.loop)
        self._websocket_counts = WebSocketCounts()
        self._connection_log = ConnectionLog()
        #: Whether the server is closing, and since when (monotonic).
        self.draining = False
        self._draining_since = 0.0
        #: How many requests were received on connections that have closed.
        self._past_requests = 0
        self._available = True
        self._on_option_changed()
        apply_options(self, options)
        if listener is not None:
            self.on('request', listener)

    def _on_option_changed(self) -> None:
        """Derive the values that connections read for every request."""
        super()._on_option_changed()
        self._limits = Limits(
            max_header_size=self.max_header_size,
            max_headers_count=self.max_headers_count,
            max_body_size=self.max_body_size,
            max_request_line=self.max_request_line,
            max_field_size=self.max_field_size,
        )
        self._buffer_limit.limit = self.max_buffered
        self._request_limit = self.max_requests_per_socket
        self._all_special = self._request_limit > 0
        self._cancels_listeners = self.cancel_on_disconnect
        #: The shortest of all timeouts: no deadline can pass sooner.
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
        self._idle_workers = None if self.greenlet_per_request else idle_workers(self._hub)
        if self.max_idle_workers < self._idle_limit:
            limit_idle_workers(self._hub, self.max_idle_workers)
        self._idle_limit = self.max_idle_workers
        kind = TracedConnection if self.debug_connections else Connection
        self._accept_connection = self._accept_http2() if self.http2 else kind
        if self._connection_class is not kind:
            # open connections change their class, too: both have the same slots
            self._connection_class = kind
            for connection in self._connections():
                if isinstance(connection, Connection):
                    connection.__class__ = kind
                elif self._trace_http2 is not None:
                    self._trace_http2(connection, self.debug_connections)
        self._forwarded_policy = (
            None
            if not (self.forwarded_headers or self.scheme_headers)
            else ForwardedPolicy(
                TrustedProxies(self.trusted_proxies),
                self.forwarded_headers,
                self.scheme_headers,
                TrustedProxies(self.scheme_proxies) if self.scheme_proxies else None,
            )
        )

    def _accept_http2(self) -> Callable[[Any, Socket], object]:
        """Set the limits of HTTP/2; return the function for new connections.

        Raises ``ImportError`` without the extra ``http2``.
        """
        try:
            from geventnode.http2.limits import ConnectionLimits
            from geventnode.http2.preface import accept, trace
        except ImportError as error:
            package = (error.name or '').partition('.')[0]
            raise ImportError(
                f"http2 needs a package that is not installed ({package}); run: pip install 'geventnode[http2]'"
            ) from error
        self._trace_http2 = trace
        self._http2_limits = ConnectionLimits(
            self._limits,
            max_concurrent_streams=self.http2_max_concurrent_streams,
            initial_window_size=self.http2_initial_window_size,
            max_window_size=self.http2_max_window_size,
            max_frame_size=self.http2_max_frame_size,
            max_header_list_size=self.http2_max_header_list_size,
            max_continuations=self.http2_max_continuations,
            flood_window=self.http2_flood_window,
            max_resets=self.http2_max_resets,
            max_control_frames=self.http2_max_control_frames,
            max_empty_frames=self.http2_max_empty_frames,
            max_window_updates=self.http2_max_window_updates,
        )
        return accept

    @property
    def available(self) -> bool:
        """Whether load balancers should send requests here.

        Set it to False some time before closing, so that they stop early. It is False while the server drains. Nothing
        else depends on it.
        """
        return self._available and not self.draining

    @available.setter
    def available(self, available: bool) -> None:
        self._available = available

    def __call__(self, request: Any, response: Any) -> None:
        """Call the ``'request'`` listeners, or respond 501 if there are none.

        So a server can be used as a listener. Blocks until the listeners have returned.
        """
        self._check_thread()
        if not self._dispatch(request, response):
            self._respond_unhandled(response)

    def _check(self, event: str, listener: Listener) -> None:
        super()._check(event, listener)
        if event in self.events:
            check_listener(event, listener)

    def set_timeout(self, seconds: float, callback: Callable[[Socket], object] | None = None) -> Server:
        """Set ``timeout`` for all connections, and add ``callback`` as a ``'timeout'`` listener.

        :param seconds: seconds without traffic; 0: no limit.

        Returns the server.
        """
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
        for name, trusted in (
            ('forwarded_headers', self.trusted_proxies),
            ('scheme_headers', self.scheme_proxies or self.trusted_proxies),
        ):
            if getattr(self, name) and not trusted:
                raise InvalidInput(f'{name} has no effect without trusted_proxies; set both')

    def _listen_on(self: Self, listener: Any, arguments: Any) -> Self:
        self.draining = False
        return super()._listen_on(listener, arguments)

    def _on_connection(self, socket: Socket) -> None:
        if self.listener_count('connection'):
            # input stays in the kernel until the listeners have returned
            socket._pause_reading()
            gevent.spawn(self._emit_and_begin, socket)
        else:
            self._accept_connection(self, socket)

    def _on_proxy_header_error(self, socket: Socket, error: Exception) -> None:
        super()._on_proxy_header_error(socket, error)
        if self.listener_count('clientError'):
            gevent.spawn(self.emit, 'clientError', error, socket)

    def _emit_and_begin(self, socket: Socket) -> None:
        self._emit_connection(socket)
        # in the hub: workers switch back to the hub, and not to this greenlet
        self._hub.loop.run_callback(self._begin, socket)

    def _begin(self, socket: Socket) -> None:
        if not socket.destroyed and not socket._did_read:
            self._accept_connection(self, socket)
            socket._resume_reading()

    # -- requests: run by a worker --------------------------------------------------------------------------------

    def _dispatch(self, request: IncomingMessage, response: ServerResponse) -> bool:
        """Emit ``'request'``, and return whether there was a listener.

        Blocks until the listeners have returned. Raises ``ListenerReturned`` if one of them has returned a response.
        """
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
        """Respond 501 to a request without a listener. Blocks until the response is queued."""
        response.write_head(501)
        response.end()

    def _dispatch_special(
        self, connection: Connection, head: RequestHead, request: IncomingMessage, response: ServerResponse
    ) -> None:
        """Dispatch a request that needs more than ``'request'`` listeners.

        That is one with ``Expect``, with ``Upgrade``, with the method CONNECT, and the first one after
        ``max_requests_per_socket``. Blocks until its listeners have returned.
        """
        if 0 < self._request_limit < connection.served:
            self.emit('dropRequest', request, connection.socket)
            response.should_keep_alive = False
            response.write_head(503)
            response.end()
        elif head.method == 'CONNECT':
            self._dispatch_upgrade('connect', connection, request)
        elif head.upgrade and request.complete and self._wants_upgrade(request):
            # a request with content is an ordinary one: a server may ignore Upgrade (RFC 9110, section 7.8)
            self._dispatch_upgrade('upgrade', connection, request)
        elif head.expect is None:
            if not self._dispatch(request, response):
                self._respond_unhandled(response)
        elif head.expect != '100-continue':
            if not self.emit('checkExpectation', request, response):
                # it is unknown whether the client sends the body (RFC 9110, section 10.1.1)
                response.should_keep_alive = False
                response.write_head(417)
                response.end()
        else:
            response._awaits_continue = not request.complete
            if not (self.emit('checkContinue', request, response) or self._dispatch(request, response)):
                self._respond_unhandled(response)

    def _wants_upgrade(self, request: IncomingMessage) -> bool:
        """Return whether ``request`` is for the ``'upgrade'`` listeners.

        Blocks as long as ``should_upgrade_callback`` does.
        """
        listeners = self.listeners('upgrade')
        decide = self.should_upgrade_callback
        if decide is not None:
            return bool(listeners) and bool(decide(request))
        # a listener for one protocol knows which requests ask for it
        return any(not hasattr(each, 'wants_upgrade') or each.wants_upgrade(request) for each in listeners)

    def _dispatch_upgrade(self, event: str, connection: Connection, request: IncomingMessage) -> None:
        """Emit ``event`` with the socket, or close if there is no listener.

        The listener owns the socket from then on. Blocks until it has returned.
        """
        socket = connection.socket
        if not self.listener_count(event):
            connection.close_without_response()
            return
        # the responses to earlier requests
        socket._flush_now()
        if socket.destroyed:
            return
        response = connection.response
        rest = connection.upgrade()
        if response is not None:
            response._on_passed_on()
        try:
            self.emit(event, request, socket, rest)
        except WebSocketHandshakeError as error:
            # the response was sent
            self._peer_log.log_refusal('websocket', '%s: %s', describe_request(request), error)
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
            connection.begin_draining()
        for protocol in self._protocols():
            if isinstance(protocol, UpgradedConnection):
                protocol._drain()

    def _connections(self) -> list[ServedConnection]:
        return [protocol for protocol in self._protocols() if isinstance(protocol, ServedConnection)]

    def _protocols(self) -> list[Any]:
        """Return the protocol of each socket: an HTTP connection, another protocol, or None."""
        return [socket._protocol for socket in self._sockets]

    def statistics(self) -> dict[str, int]:
        """Count the connections by their present activity.

        ``idle``: waits for a request; ``reading``: receives a request; ``handling``: a listener runs; ``writing``: the
        client has not received the queued bytes; ``closing``: waits for the client to close; ``websocket``: is a
        WebSocket of :mod:`geventnode.websocket`; ``upgraded``: speaks another protocol.

        ``connections`` is the sum of these, ``buffered`` the number of bytes of unread input in memory, and ``refused``
        the sum of ``refusals``. The time it takes grows with the number of connections.
        """
        found: dict[str, int] = dict.fromkeys(ACTIVITIES, 0)
        for socket in self._sockets:
            found[activity_of(socket._protocol)] += 1
        return {
            **found,
            'connections': len(self._sockets),
            'buffered': self._buffer_limit.used,
            'refused': self._peer_log.refusals.total(),
        }

    def websocket_statistics(self) -> dict[str, int]:
        """Count the WebSockets and their messages.

        They are counted from the creation of the server on. ``accepted``, ``messages_received``, ``messages_sent``,
        ``bytes_received`` and ``bytes_sent``: the bytes of the messages, before compression and after decompression.
        The number of open ones is in :meth:`statistics`.
        """
        counts = self._websocket_counts
        return {name: getattr(counts, name) for name in WebSocketCounts.__slots__}

    def close_idle_connections(self) -> None:
        """Close the connections on which no request has begun to arrive."""
        self._check_thread()
        for connection in self._connections():
            if connection.idle:
                connection.close()

    def _make_room(self) -> bool:
        # A client can have sent a request that the loop has not reported yet: only connections that have been idle for
        # a while are closed. Several are closed at once, because the clients of a full server arrive in bursts.
        # A client that has not received the end of its response keeps its place until then, or until ``timeout``.
        grace = self.keep_alive_timeout_buffer
        now = monotonic()
        idle = sorted(
            (each for each in self._connections() if each.idle and each.served and not each.socket._has_queued),
            key=_began,
        )
        before = len(self._sockets)
        for connection in idle[: max(1, before // ROOM_FRACTION)]:
            if connection.began + grace > now:
                connection._expires = min(connection._expires, connection.began + grace)
            elif connection.socket._poll_now():
                # of HTTP/2 it can be other than a request
                connection._expires = min(connection._expires, now)
            else:
                connection.close_at_once()
        return len(self._sockets) < before

    def close_all_connections(self) -> None:
        """Destroy every connection, also those on which a request is served."""
        self._check_thread()
        self._destroy_connections()

    def _destroy_connections(self) -> None:
        for socket in tuple(self._sockets):
            protocol: Any = socket._protocol
            if isinstance(protocol, ServedConnection):
                protocol.close_at_once()
            else:
                socket.destroy()

    def send_error(self, socket: Socket, status_code: int) -> None:
        """Send an error response, for ``'clientError'`` listeners.

        The server closes the connection after the listeners have returned.

        :param socket: the socket that the listener was called with.
        :param status_code: a status from 400 to 599; the body repeats it with its reason phrase.

        Raises ``ConnectionClosed`` if the socket is destroyed.
        """
        self._check_thread()
        socket._send(error_response(status_code))


def _began(connection: ServedConnection) -> float:
    return connection.began


def activity_of(protocol: Any) -> str:
    """Return the one of :data:`ACTIVITIES` for the protocol of a connection."""
    return protocol.activity if isinstance(protocol, (ServedConnection, UpgradedConnection)) else 'upgraded'


def create_server(listener: RequestListener | None = None, **options: Unpack[ServerOptions]) -> Server:
    """Return a new :class:`Server`. Times are seconds, sizes bytes.

    :param listener: a listener for ``'request'``, a function of the request and the response.
    :param timeout: the time without traffic after which a connection is closed; 0: no limit. 120.
    :param headers_timeout: the time for a whole head, from its first byte or from accepting; 0: no limit. 60.
    :param request_timeout: the time for a whole request with its body; 0: no limit. 300.
    :param min_body_rate: the minimum rate of a body in bytes per second, over each period of ``request_timeout``. 0:
        ``request_timeout`` limits the whole request. 0.
    :param keep_alive_timeout: the time that an idle connection is kept after a response; 0: no limit. 65.
    :param keep_alive_timeout_buffer: the time that it is kept beyond ``keep_alive_timeout``, for requests that are on
        their way. 1.
    :param max_header_size: the size of a request line and its header section. 16384.
    :param max_headers_count: the number of fields in a header section; 0: as many as fit. 1000.
    :param max_request_line: the size of a request line. None: as for the head.
    :param max_field_size: the size of a header field. None: as for the head.
    :param max_body_size: the size of a request body. None: no limit.
    :param max_requests_per_socket: requests on one connection; 0: no limit. 0.
    :param max_unread_body: the size of an unread body that is discarded to keep a connection. 65536.
    :param max_buffered: the size of the unread input that all connections hold together. 268435456.
    :param cancel_on_disconnect: whether ``ClientDisconnected`` is thrown into a listener when its client disconnects.
        False.
    :param max_idle_workers: greenlets that are kept for the next request, on this thread. 256.
    :param greenlet_per_request: whether every request runs in a new greenlet. False.
    :param debug_connections: whether the events of each connection are logged. False.
    :param should_upgrade_callback: a function of a request for an upgrade that returns whether to emit ``'upgrade'``;
        otherwise it is an ordinary request. It runs in the greenlet of the request. None: if a listener wants the
        request; those of :func:`geventnode.websocket.listener` want WebSockets, all others want every request.
    :param http2: whether HTTP/2 is served, too; it needs the extra ``http2``. False.
    :param http2_max_concurrent_streams: requests of one HTTP/2 connection at the same time. 100.
    :param http2_initial_window_size: the size of an unread body that is accepted of an HTTP/2 request. 65535.
    :param http2_max_window_size: the same of a body that the listener has read as fast as it arrived. 1048576.
    :param http2_max_frame_size: the size of the largest HTTP/2 frame. 16384.
    :param http2_max_header_list_size: the size of the fields of an HTTP/2 request, and 32 for each. None:
        ``max_header_size``.
    :param http2_max_continuations: CONTINUATION frames of one HTTP/2 head. 16.
    :param http2_flood_window: the time in which the next limits count. 10.
    :param http2_max_resets: HTTP/2 streams that a client resets, or makes the server reset. 500.
    :param http2_max_control_frames: PING, SETTINGS and PRIORITY frames, and frames of unknown types. 1000.
    :param http2_max_empty_frames: DATA frames without data that do not end a stream, and empty parts of heads. 100.
    :param http2_max_window_updates: WINDOW_UPDATE frames beyond ten for each DATA frame of the server. 1000.
    :param forwarded_headers: fields that every trusted proxy sets or removes. ().
    :param scheme_headers: fields of trusted proxies, and their values that mean https. {}.
    :param scheme_proxies: connecting addresses with trusted ``scheme_headers``. (): ``trusted_proxies``.
    :param request_class: the class of requests, a subclass of :class:`geventnode.http.IncomingMessage`.
    :param response_class: the class of responses, a subclass of :class:`geventnode.http.ServerResponse`.
    :param max_connections: as of :func:`geventnode.net.create_server`, and so are ``wait_when_full``,
        ``trusted_proxies`` and ``proxy_protocol``.

    Raises ``UnknownOption`` for an unknown option, ``TypeError`` and ``InvalidInput`` for a bad value, and
    ``TypeError`` for a coroutine function, a generator function, or a WSGI application without ``wsgi()``.
    """
    return Server(listener, **options)
