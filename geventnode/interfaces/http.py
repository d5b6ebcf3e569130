"""The contracts of HTTP messages and the server, after Node's ``http``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zope.interface import Attribute, Interface

from geventnode.interfaces.net import IServer, ISocket
from geventnode.interfaces.streams import IReadable, IWritable

__all__ = [
    'IEventBroadcast',
    'IExchangeObserver',
    'IHTTPServer',
    'IIncomingMessage',
    'IOutgoingMessage',
    'IServerResponse',
]

Headers = Mapping[str, Any] | Iterable[tuple[str, Any]]


class IIncomingMessage(IReadable):
    """A received request or response; see :class:`geventnode.http.IncomingMessage`.

    Emits, besides the events of a readable stream, ``'aborted'`` () when the peer disconnects before the exchange is
    complete, and ``'timeout'`` (socket). ``'close'`` () is emitted when the connection is lost before the message is
    complete.
    """

    http_version: str = Attribute("The version of the message: ``'1.1'``, ``'1.0'``, or ``'2.0'`` by HTTP/2.")
    http_version_major: int = Attribute('The first number of the version.')
    http_version_minor: int = Attribute('The second number of the version.')
    headers: dict[str, Any] = Attribute(
        'Values by lower-cased name; lookups ignore case. Repeated fields are joined as in Node 20, and Set-Cookie is '
        'a list.'
    )
    headers_distinct: dict[str, list[str]] = Attribute('The values of each line, by lower-cased name.')
    raw_headers: list[tuple[str, str]] = Attribute('The lines as they arrived, in their order.')
    trailers: dict[str, Any] = Attribute("The trailer fields, as ``headers``; empty before ``'end'``.")
    trailers_distinct: dict[str, list[str]] = Attribute('The trailer fields, as ``headers_distinct``.')
    raw_trailers: list[tuple[str, str]] = Attribute('The trailer fields, as ``raw_headers``.')
    method: str | None = Attribute('The request method; None in a response.')
    url: str | None = Attribute('The request target as it was sent; None in a response.')
    status_code: int | None = Attribute('The three-digit status; None in a request.')
    status_message: str | None = Attribute('The reason phrase; None in a request.')
    socket: ISocket = Attribute(
        'The connection of the message. In a client, once other requests can have the connection: a destroyed '
        'stand-in, which reports addresses and certificates; its destroy() closes the connection unless another '
        'request has used it since.'
    )
    connection: ISocket = Attribute("The same as ``socket``, under Node's older name.")
    remote_address: str | None = Attribute(
        'The IP address of the client, as forwarded by trusted proxies; None on Unix sockets. In a response, the '
        'address of the server.'
    )
    remote_port: int | None = Attribute('The port of the client; None if a trusted proxy does not forward it.')
    scheme: str = Attribute("``'https'`` or ``'http'``: the client's, as forwarded by trusted proxies.")
    host: str | None = Attribute(
        'The requested host, and the port if there is one, from the target, Host or a trusted proxy. None in '
        'responses, and in HTTP/1.0 requests without Host.'
    )
    complete: bool = Attribute('Whether the whole message was received and parsed.')
    aborted: bool = Attribute('Whether the peer disconnected before the exchange was complete.')
    upgrade: bool = Attribute('Whether the message requests another protocol, or accepts one.')
    head: bytes = Attribute('Responses that accept an upgrade: the bytes of the other protocol that followed the head.')

    stream_id: int | None = Attribute('Requests by HTTP/2: the identifier of the stream. None in HTTP/1.1.')

    def set_timeout(seconds: float | None, callback: Callable[..., object] | None = None) -> Any:
        """Set the inactivity timeout of this exchange; see :meth:`geventnode.http.IncomingMessage.set_timeout`."""


class IOutgoingMessage(IWritable):
    """A message to be sent; see :class:`geventnode.http.OutgoingMessage`.

    Emits, besides the events of a writable stream, ``'close'`` () when the connection is lost before the message was
    sent, and ``'timeout'`` (socket).
    """

    headers_sent: bool = Attribute('Whether the head is fixed: headers can no longer change.')
    finished: bool = Attribute('Whether end() was called.')
    body_size: int = Attribute('Bytes of the body that were written, without their framing.')
    send_date: bool = Attribute('Whether a Date header is added if there is none.')
    socket: ISocket | None = Attribute('The connection of the message. In a client, see IIncomingMessage.')
    connection: ISocket | None = Attribute("The same as ``socket``, under Node's older name.")

    def set_header(name: str, value: Any) -> Any:
        """Set a header; see :meth:`geventnode.http.OutgoingMessage.set_header`."""

    def set_headers(headers: Headers) -> Any:
        """Set several headers; see :meth:`geventnode.http.OutgoingMessage.set_headers`."""

    def append_header(name: str, value: Any) -> Any:
        """Add lines to a header; see :meth:`geventnode.http.OutgoingMessage.append_header`."""

    def get_header(name: str) -> Any:
        """Return the value of a header; see :meth:`geventnode.http.OutgoingMessage.get_header`."""

    def get_headers() -> dict[str, Any]:
        """Return the headers by name; see :meth:`geventnode.http.OutgoingMessage.get_headers`."""

    def get_header_names() -> list[str]:
        """Return the names; see :meth:`geventnode.http.OutgoingMessage.get_header_names`."""

    def has_header(name: str) -> bool:
        """Return whether a header is set; see :meth:`geventnode.http.OutgoingMessage.has_header`."""

    def remove_header(name: str) -> None:
        """Remove a header; see :meth:`geventnode.http.OutgoingMessage.remove_header`."""

    def flush_headers() -> None:
        """Send the head now; see :meth:`geventnode.http.OutgoingMessage.flush_headers`."""

    def add_trailers(headers: Headers) -> None:
        """Set the trailers; see :meth:`geventnode.http.OutgoingMessage.add_trailers`."""

    def set_timeout(seconds: float | None, callback: Callable[..., object] | None = None) -> Any:
        """Set the inactivity timeout of this exchange; see :meth:`geventnode.http.OutgoingMessage.set_timeout`."""


class IServerResponse(IOutgoingMessage):
    """The response to one request; see :class:`geventnode.http.ServerResponse`."""

    status_code: int = Attribute(
        'The status to be sent, 200 unless it is set; later the status that was sent. The names of other libraries, '
        '``status`` and ``statusCode``, raise ``AttributeError``.'
    )
    status_message: str | None = Attribute('The reason phrase; None: the standard one.')
    request: IIncomingMessage = Attribute('The request that this is the response to.')
    server: Any = Attribute('The server that received the request: an :class:`IHTTPServer`.')
    should_keep_alive: bool = Attribute('Whether the connection can serve another request afterwards.')
    handler_may_block: bool = Attribute(
        'Whether ``timeout`` and ``request_timeout`` count only while the server waits for the client, to send the '
        'body or to receive the response, and not while the listener blocks. False.'
    )

    def write_head(status_code: int, reason_phrase: Any = None, headers: Headers | None = None) -> Any:
        """Fix the status and the headers; see :meth:`geventnode.http.ServerResponse.write_head`."""

    def send_file(file: Any, size: int | None = None) -> Any:
        """Send a file and end; see :meth:`geventnode.http.ServerResponse.send_file`. Blocks until it is queued."""

    def cancel_on_disconnect() -> None:
        """Cancel this greenlet; see :meth:`geventnode.http.ServerResponse.cancel_on_disconnect`."""

    def upgrade(headers: Headers | None = None) -> tuple[ISocket, bytes]:
        """Respond 101 and return the socket; see :meth:`geventnode.http.ServerResponse.upgrade`."""

    def write_continue(callback: Callable[[], object] | None = None) -> None:
        """Send ``100 Continue``; see :meth:`geventnode.http.ServerResponse.write_continue`.

        Blocks until the queue has room.
        """

    def write_processing(callback: Callable[[], object] | None = None) -> None:
        """Send ``102 Processing``; see :meth:`geventnode.http.ServerResponse.write_processing`.

        Blocks until the queue has room.
        """

    def write_information(
        status_code: int, headers: Headers | None = None, callback: Callable[[], object] | None = None
    ) -> None:
        """Send any informational response; see :meth:`geventnode.http.ServerResponse.write_information`.

        Blocks until the queue has room.
        """

    def write_early_hints(hints: Mapping[str, Any], callback: Callable[[], object] | None = None) -> None:
        """Send ``103 Early Hints``; see :meth:`geventnode.http.ServerResponse.write_early_hints`.

        Blocks until the queue has room.
        """


class IHTTPServer(IServer):
    """An HTTP/1.1 server; see :class:`geventnode.http.Server`, which lists its events.

    Every option can be given to ``create_server`` and set as an attribute later; times are seconds, sizes bytes. A
    misspelled one raises ``UnknownOption`` there, and ``AttributeError`` here.
    """

    timeout: float = Attribute('Inactivity in seconds after which a request fails with 503, or 408; 0: no limit. 120.')
    headers_timeout: float = Attribute('For a whole head, from its first byte, or from accepting. 408. 60.')
    request_timeout: float = Attribute('For a whole request, body included. 408. 300.')
    min_body_rate: int = Attribute(
        'Minimum bytes per second of a body, on average over each ``request_timeout``, which then does not limit the '
        'whole body; 0: no minimum. 408. 0.'
    )
    keep_alive_timeout: float = Attribute('How long an idle connection is kept after a response; advertised. 65.')
    keep_alive_timeout_buffer: float = Attribute('How much longer it is kept than advertised. 1.')
    max_header_size: int = Attribute('Bytes of a request line and its header section. 431 or 414. 16384.')
    max_request_line: int | None = Attribute('Bytes of a request line; None: no limit but ``max_header_size``. 414.')
    max_field_size: int | None = Attribute('Bytes of a header field; None: no limit but ``max_header_size``. 431.')
    max_headers_count: int = Attribute('Fields in a header section; 0: no limit but the size. 431. 1000.')
    max_body_size: int | None = Attribute('Bytes of a request body; None: no limit. 413.')
    max_requests_per_socket: int = Attribute('Requests on one connection; 0: no limit. More get 503. 0.')
    max_unread_body: int = Attribute('Bytes of an unread body that are discarded to keep a connection. 65536.')
    max_buffered: int = Attribute('Unread bytes in memory for all connections together. 268435456.')
    cancel_on_disconnect: bool = Attribute('Throw ClientDisconnected into a listener when its client disconnects.')
    should_upgrade_callback: Callable[[Any], object] | None = Attribute(
        "Returns whether a request is for the 'upgrade' listeners; otherwise it is an ordinary one. None: if one of "
        'them wants it. Those of ``websocket.listener`` want WebSockets, all others want every request.'
    )
    max_idle_workers: int = Attribute(
        'Greenlets that are kept for the next request, with their greenlet-locals. All servers of a thread share them; '
        'the limit of the server that has served the request applies. A lower value ends the surplus. 256.'
    )
    greenlet_per_request: bool = Attribute('Run every request in a new greenlet, for full isolation.')
    debug_connections: bool = Attribute(
        'Log the events of each connection to ``geventnode.connection`` (DEBUG), also of those that are open; can be '
        'switched on and off at any time. False.'
    )
    http2: bool = Attribute(
        'Serve HTTP/2, too: to TLS clients that choose it, and to clients that begin with its preface. Set it when the '
        'server is created. It needs the extra ``http2``. False.'
    )
    http2_max_concurrent_streams: int = Attribute(
        'Requests of one HTTP/2 connection at the same time. More are refused with REFUSED_STREAM. 100.'
    )
    http2_initial_window_size: int = Attribute(
        'Bytes of the body of an HTTP/2 request that a client can send before the application has read any. 65535.'
    )
    http2_max_window_size: int = Attribute(
        'Bytes of the body of an HTTP/2 request that a client can send ahead while the application reads as fast as '
        'they arrive: the window begins with ``http2_initial_window_size``, and doubles. 1048576.'
    )
    http2_max_frame_size: int = Attribute('Bytes of the largest HTTP/2 frame that is accepted. 16384.')
    http2_max_header_list_size: int | None = Attribute(
        'Bytes of the names and values of an HTTP/2 request, and 32 for each field. 431; GOAWAY above four times the '
        'size. None: ``max_header_size``.'
    )
    http2_max_continuations: int = Attribute('CONTINUATION frames of one HTTP/2 head. GOAWAY. 16.')
    http2_flood_window: float = Attribute('Seconds in which the next limits count. 10.')
    http2_max_resets: int = Attribute('Streams that a client resets, or makes the server reset. GOAWAY. 500.')
    http2_max_control_frames: int = Attribute(
        'PING, SETTINGS and PRIORITY frames of a client, and frames of unknown types. GOAWAY. 1000.'
    )
    http2_max_empty_frames: int = Attribute(
        'DATA frames without data that do not end a stream, and empty parts of heads. GOAWAY. 100.'
    )
    http2_max_window_updates: int = Attribute(
        'WINDOW_UPDATE frames beyond ten for each DATA frame that the server sends. GOAWAY. 1000.'
    )

    forwarded_headers: tuple[str, ...] = Attribute(
        "The fields of trusted_proxies that are trusted: ``'forwarded'`` (RFC 7239), or any of ``'x-forwarded-for'``, "
        "``'x-forwarded-proto'``, ``'x-forwarded-host'`` and ``'x-forwarded-port'``. Name only fields that each of the "
        'proxies sets or removes: a proxy forwards an unknown field as the client sent it. ().'
    )

    scheme_headers: Mapping[str, str] = Attribute(
        'Further fields of trusted_proxies that contain the scheme, and their values that mean https. A field with any '
        'other value means http, which wins. {}.'
    )
    scheme_proxies: tuple[str, ...] = Attribute(
        'Addresses with trusted scheme_headers, if they are not those of trusted_proxies. The address that has '
        'connected counts, also if a PROXY header names another client. Name only proxies that set or remove these '
        'fields in every request, and not one that forwards bytes. ().'
    )
    draining: bool = Attribute('Whether the server is closing, or has closed: no new connections, no kept-alive ones.')
    available: bool = Attribute(
        'Whether load balancers should send requests here; see :attr:`geventnode.http.Server.available`.'
    )
    multiprocess: bool = Attribute(
        'Whether other processes run the same application: ``wsgi.multiprocess``. Set it before the first request; '
        'under gunicorn, the worker does. False.'
    )

    request_class: type[Any] = Attribute(
        'The class of requests: a subclass of :class:`geventnode.http.IncomingMessage`.'
    )
    response_class: type[Any] = Attribute(
        'The class of responses: a subclass of :class:`geventnode.http.ServerResponse`.'
    )

    def __call__(request: IIncomingMessage, response: IServerResponse) -> None:
        """Call the ``'request'`` listeners, so that a server can be a listener. Blocks until they return."""

    def set_timeout(seconds: float, callback: Callable[[ISocket], object] | None = None) -> Any:
        """Set ``timeout`` and add a listener; see :meth:`geventnode.http.Server.set_timeout`."""

    def statistics() -> dict[str, int]:
        """Count the connections by activity; see :meth:`geventnode.http.Server.statistics`."""

    def websocket_statistics() -> dict[str, int]:
        """Count WebSockets and their messages; see :meth:`geventnode.http.Server.websocket_statistics`."""

    def send_error(socket: Any, status_code: int) -> None:
        """Send an error response; see :meth:`geventnode.http.Server.send_error`."""

    def close_idle_connections() -> None:
        """Close idle connections; see :meth:`geventnode.http.Server.close_idle_connections`."""

    def close_all_connections() -> None:
        """Destroy every connection; see :meth:`geventnode.http.Server.close_all_connections`."""


class IExchangeObserver(Interface):
    """A listener for the exchanges of a server; see :class:`geventnode.http.ExchangeObserver`."""

    def exchange_began(response: IServerResponse) -> None:
        """Note the beginning; see :meth:`geventnode.http.ExchangeObserver.exchange_began`."""

    def exchange_ended(response: IServerResponse, status_code: int) -> None:
        """Note the end; see :meth:`geventnode.http.ExchangeObserver.exchange_ended`."""


class IEventBroadcast(Interface):
    """Events for many clients; see :class:`geventnode.http.EventBroadcast`."""

    dropped: int = Attribute('The number of clients that were dropped because they did not read.')

    def add(response: IServerResponse) -> None:
        """Add a client; see :meth:`geventnode.http.EventBroadcast.add`."""

    def send(data: str) -> int:
        """Send an event; see :meth:`geventnode.http.EventBroadcast.send`."""

    def end() -> None:
        """End the streams; see :meth:`geventnode.http.EventBroadcast.end`."""
