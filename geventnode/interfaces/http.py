"""The contracts of HTTP messages and of the server, after Node's module ``http``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zope.interface import Attribute, Interface

from geventnode.interfaces.net import IServer, ISocket
from geventnode.interfaces.streams import IReadable, IWritable

__all__ = ['IExchangeObserver', 'IHTTPServer', 'IIncomingMessage', 'IOutgoingMessage', 'IServerResponse']

Headers = Mapping[str, Any] | Iterable[tuple[str, Any]]


class IIncomingMessage(IReadable):
    """A received request or response; see :class:`geventnode.http.IncomingMessage`.

    Emits, besides the events of a readable stream, ``'aborted'`` () when the peer disconnects before the exchange is
    complete, ``'close'`` () when the connection is lost before the message is complete, and ``'timeout'`` (socket).
    """

    http_version: str = Attribute("The version in the start line, ``'1.1'`` or ``'1.0'``.")
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
    """The answer to one request. Made by the server, never by its users.

    A whole answer to one of several pipelined requests, to which nobody listens, may wait for the next one: for the end
    of this turn of the loop at most. It counts as handed to the kernel then, though a listener that blocks the loop
    holds it up, and a process that dies before that takes it along.
    """

    status_code: int = Attribute(
        'The status to be sent, 200 unless set; afterwards the one that was sent. ``status`` and ``statusCode``, which '
        'others call it, raise ``AttributeError``.'
    )
    status_message: str | None = Attribute('The reason phrase; None: the standard one.')
    request: IIncomingMessage = Attribute('The request that this answers.')
    server: Any = Attribute('The server that the request came to: an :class:`IHTTPServer`.')
    should_keep_alive: bool = Attribute('Whether the connection may serve another request afterwards.')
    handler_may_block: bool = Attribute(
        'Whether the listener may take its time: ``timeout`` and ``request_timeout`` then count only while the client '
        'is waited for, to send the body or to take the response. False.'
    )

    def write_head(status_code: int, reason_phrase: Any = None, headers: Headers | None = None) -> Any:
        """Fix the status and the headers: those given win over those set before. ``write_head(200, {...})`` works,
        too. Return the response. They leave with the first body bytes, or with ``end``.

        Raises ``HeadersSent`` the second time, ``ValueError`` for a status outside 200-999 or a reason phrase with
        control characters, ``InvalidHeader`` as :meth:`set_header` does.
        """

    def send_file(file: Any, size: int | None = None) -> Any:
        """Send what is left of ``file`` from its position on, ``size`` bytes at most, as the rest of the body, and end
        the response; return it. A regular file that was opened in binary mode goes from kernel to kernel (``sendfile``)
        where the connection and the system allow it, and its length is declared unless headers say something else. Its
        position is that behind the last byte then. May switch.

        Raises ``ConnectionClosed``, ``WriteAfterEnd``, ``ContentLengthMismatch`` when the file gets shorter meanwhile,
        what reading it raises, and ``TypeError``, before the head leaves, for a path and for a file of text.
        """

    def cancel_on_disconnect() -> None:
        """Throw ``ClientDisconnected`` into the calling greenlet when the client goes away before the response has
        ended, and, if it is the listener's own, before the listener has returned: the server's option of that name, for
        one request. Raises ``ClientDisconnected`` when the client has gone already."""

    def upgrade(headers: Headers | None = None) -> tuple[ISocket, bytes]:
        """Answer ``101 Switching Protocols`` with these headers, and take the connection over from the server: return
        the socket, and what came behind the request. ``Connection: Upgrade`` is added, and so is ``Upgrade`` with the
        request's own value when it is not among them. For listeners of ``'request'``, where nobody listens for
        ``'upgrade'``.

        Raises ``InvalidInput`` when the request does not ask for another protocol or has a body, ``HeadersSent`` when
        the head is fixed, ``InvalidHeader``, ``ConnectionClosed``.

        Source: RFC 9110, section 7.8.
        """

    def write_continue(callback: Callable[[], object] | None = None) -> None:
        """Send ``100 Continue``, once; nothing happens after the final head. May switch."""

    def write_processing(callback: Callable[[], object] | None = None) -> None:
        """Send ``102 Processing`` (RFC 2518). May switch."""

    def write_early_hints(hints: Mapping[str, Any], callback: Callable[[], object] | None = None) -> None:
        """Send ``103 Early Hints`` (RFC 8297) with these fields, ``{'link': [...]}``. Raises ``InvalidHeader``. May
        switch."""


class IHTTPServer(IServer):
    """An HTTP/1.1 server.

    Every option can be given to ``create_server`` and set as an attribute later; times are seconds, sizes bytes. One
    that is misspelt raises ``UnknownOption`` there, and ``AttributeError`` here.

    Events, beside those of a server: ``'request'`` (request, response), ``'checkContinue'`` (request, response),
    ``'checkExpectation'`` (request, response), ``'connect'`` (request, socket, head), ``'upgrade'`` (request, socket,
    head), ``'clientError'`` (exception, socket), ``'timeout'`` (socket), ``'dropRequest'`` (request, socket).

    A listener for ``'request'`` answers by calling the response, before it returns or later. One that returns an answer
    (text, bytes, a dict, list, tuple or generator, or what can be awaited), and has not begun to send one, is an error
    that is logged, and the client gets 500. Coroutine functions and generator functions, which would never run, are
    refused as listeners for the events of a server: ``TypeError``. So is for ``'request'`` what the names of its
    parameters call a WSGI application, as :func:`geventnode.integrations.wsgi.is_wsgi` reads them.

    A listener that raises costs its own exchange: the error is logged, and the client gets 500, or sees the response
    cut off when its head was sent. That goes for ``SystemExit``, too: ``sys.exit()`` in what a listener calls would
    take all other requests along. ``KeyboardInterrupt`` and ``GreenletExit`` are gevent's to handle.
    """

    timeout: float = Attribute('Inactivity after which a request is given up: 503, or 408; 0: never. 120.')
    headers_timeout: float = Attribute('For a whole head, from its first byte, or from accepting. 408. 60.')
    request_timeout: float = Attribute('For a whole request, body included. 408. 300.')
    min_body_rate: int = Attribute(
        'Bytes per second that a body must bring, on average over each ``request_timeout``, which then limits no body '
        'as a whole; 0: no such rate. 408. 0.'
    )
    keep_alive_timeout: float = Attribute('How long an idle connection is kept after a response; advertised. 65.')
    keep_alive_timeout_buffer: float = Attribute('How much longer it is kept than advertised. 1.')
    max_header_size: int = Attribute('Bytes of a request line and its header section. 431 or 414. 16384.')
    max_request_line: int | None = Attribute('Bytes of a request line; None: as many as the head may have. 414.')
    max_field_size: int | None = Attribute('Bytes of a header field; None: as many as the head may have. 431.')
    max_headers_count: int = Attribute('Fields in a header section; 0: no limit but the size. 431. 1000.')
    max_body_size: int | None = Attribute('Bytes of a request body; None: no limit. 413.')
    max_requests_per_socket: int = Attribute('Requests on one connection; 0: no limit. More get 503. 0.')
    max_unread_body: int = Attribute('Bytes of an unread body that are discarded to keep a connection. 65536.')
    max_buffered: int = Attribute('Unread bytes in memory for all connections together. 268435456.')
    cancel_on_disconnect: bool = Attribute('Throw ClientDisconnected into listeners whose client has gone.')
    max_idle_workers: int = Attribute(
        'Greenlets that are kept for the next request, with their greenlet-locals; all servers of a thread share them, '
        'and the one whose request ends decides. A lower value ends those above it. 256.'
    )
    greenlet_per_request: bool = Attribute('Run every request in a new greenlet, for full isolation.')
    debug_connections: bool = Attribute(
        'Tell the logger ``geventnode.connection`` (DEBUG) what happens on each connection, those that are open '
        'included; can be switched on and off at any time. False.'
    )
    forwarded_headers: tuple[str, ...] = Attribute(
        "What is believed of trusted_proxies: ``'forwarded'`` (RFC 7239), or any of ``'x-forwarded-for'``, "
        "``'x-forwarded-proto'``, ``'x-forwarded-host'`` and ``'x-forwarded-port'``. Name only what every one of them "
        'sets or removes: what a proxy does not know it passes on as the client sent it. ().'
    )

    scheme_headers: Mapping[str, str] = Attribute(
        'Further fields of trusted_proxies that tell of the scheme, and the values by which they say https; fields '
        'that are there with any other value say http, and win. {}.'
    )
    scheme_proxies: tuple[str, ...] = Attribute(
        'Whose scheme_headers are believed where that shall not be decided by trusted_proxies: by the address that has '
        'connected, also when a PROXY header names another client. Name only proxies that set or remove these fields '
        'in every request, and so none that passes on bytes. ().'
    )
    draining: bool = Attribute('Whether the server is closing, or has closed: no new connections, no kept-alive ones.')
    available: bool = Attribute(
        'Whether balancers should send requests here. Set it to False some time before closing, so that they stop in '
        'time; it is False while draining in any case. Nothing else depends on it.'
    )
    multiprocess: bool = Attribute(
        'Whether other processes serve the same, which WSGI applications are told. Set it before the first request; '
        'under gunicorn the worker does. False.'
    )

    request_class: type[Any] = Attribute(
        'The class of requests: a subclass of :class:`geventnode.http.IncomingMessage`.'
    )
    response_class: type[Any] = Attribute(
        'The class of responses: a subclass of :class:`geventnode.http.ServerResponse`.'
    )

    def __call__(request: IIncomingMessage, response: IServerResponse) -> None:
        """Hand a request to the ``'request'`` listeners, so that a server may stand where a listener is wanted;
        501 when there are none. May switch."""

    def set_timeout(seconds: float, callback: Callable[[ISocket], object] | None = None) -> Any:
        """Set ``timeout`` for connections to come, and a ``'timeout'`` listener; return the server."""

    def statistics() -> dict[str, int]:
        """Return how many connections do what now. Never switches; the work grows with their number.

        ``idle`` ones wait for a request, ``reading`` ones are in the midst of receiving one, ``handling`` ones wait
        for a listener, ``writing`` ones for a client to take what is queued, ``closing`` ones for it to go, and
        ``upgraded`` ones are somebody else's; ``connections`` are all of them. ``buffered`` is how many bytes of unread
        input they hold together, and ``refused`` the sum of ``refusals``.
        """

    def send_error(socket: Any, status_code: int) -> None:
        """Send an error response; see :meth:`geventnode.http.Server.send_error`."""

    def close_idle_connections() -> None:
        """Close the connections that have no request in work."""

    def close_all_connections() -> None:
        """Destroy every connection, also those with a request in work."""


class IExchangeObserver(Interface):
    """A listener for the exchanges of a server; see :class:`geventnode.http.ExchangeObserver`."""

    def exchange_began(response: IServerResponse) -> None:
        """Note the beginning; see :meth:`geventnode.http.ExchangeObserver.exchange_began`."""

    def exchange_ended(response: IServerResponse, status_code: int) -> None:
        """Note the end; see :meth:`geventnode.http.ExchangeObserver.exchange_ended`."""
