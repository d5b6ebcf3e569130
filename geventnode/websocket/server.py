"""Accept WebSockets on a server: from ``'upgrade'`` listeners, request listeners and WSGI applications.

A refused handshake gets an HTTP response, and its connection is closed: it serves no further request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, overload

from gevent import get_hub

from geventnode.errors import ConnectionClosed, WebSocketClosed, WebSocketHandshakeError
from geventnode.http.header_fields import HeadersArgument, field_lines, merge_headers
from geventnode.http.incoming import IncomingMessage, describe_request
from geventnode.http.server.listener_checks import check_listener
from geventnode.http.server.response import ServerResponse
from geventnode.http.status import STATUS_CODES
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.socket import Socket
from geventnode.websocket.connection import INTERNAL_ERROR, LINGER_TIME, Settings, WebSocket, WebSocketOptions, settings
from geventnode.websocket.deflate import Deflate
from geventnode.websocket.handshake import (
    VERSION,
    Accepted,
    Origins,
    asks_for_websocket,
    check_origins,
    check_request,
    check_subprotocols,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ['AcceptOptions', 'accept', 'finish', 'listener', 'upgrade']

log = logging.getLogger('geventnode.error')


class AcceptOptions(WebSocketOptions, total=False):
    """The options of :func:`accept`."""

    headers: HeadersArgument | None
    origins: Origins
    subprotocols: Sequence[str] | Callable[[list[str]], str | None]


#: The options that only a server has.
OWN_OPTIONS = frozenset({'headers', 'origins', 'subprotocols'})

Handler = Callable[[WebSocket], object]
UpgradeListener = Callable[['IncomingMessage', 'Socket', bytes], None]


def accept(request: IncomingMessage, socket: Socket, head: bytes, **options: Unpack[AcceptOptions]) -> WebSocket:
    """Accept the WebSocket that a request asks for.

    It is for listeners for ``'upgrade'``.

    :param request: the request, and so ``socket`` and ``head``, with which the listener was called.
    :param origins: the pages that can open a WebSocket. None: those of the same host (:func:`same_origin`); ``'*'``:
        all; a collection of origins, such as ``{'https://example.org'}``; or a function of the request. Clients that
        are no browsers send no ``Origin`` and are allowed, except by a function. None.
    :param subprotocols: the supported ones in the order of preference, or a function that chooses one of a list. ().
    :param headers: further fields of the response.
    :param compression: True to accept ``permessage-deflate`` (RFC 7692), or its options: ``server_max_window_bits`` and
        ``client_max_window_bits`` (12), ``server_no_context_takeover`` and ``client_no_context_takeover`` (False),
        ``level`` (6), ``memory_level`` (5), and ``minimum_size`` (64): shorter messages are not compressed. False.
    :param max_message_size: bytes of a message, after decompression; None: no limit. More closes with 1009. 1048576.
    :param max_fragments: frames of a message; 0: no limit. More closes with 1008. 4096.
    :param max_send_queue: bytes that are queued before :meth:`WebSocket.send_nowait` raises. 1048576.
    :param send_timeout: seconds that :meth:`WebSocket.send` waits for a peer that does not read. None.
    :param ping_interval: seconds without input after which a ping is sent; None: never. 30.
    :param ping_timeout: seconds for the peer to respond to such a ping before the connection is closed. 30.
    :param close_timeout: seconds for the peer to complete the closing handshake. 10.
    :raises WebSocketHandshakeError: the request was refused: 400, 403 or 426 was sent, or 503 by a server that closes.
        The server counts it if the listener does not catch it.
    :raises UnknownOption: an option does not exist; the error names the nearest one.
    :raises InvalidInput: ``origins`` is one origin instead of a collection of them, or an option is out of range.
    """
    checked = _settings(options)
    server: Any = request._connection.server  # type: ignore[attr-defined]  # a request's connection has a server
    try:
        accepted = _check(request, server, options, checked.compression)
        further = _further_fields(accepted, options.get('headers'))
    except BaseException as error:
        _refuse(socket, error)
        raise
    try:
        socket._send(f'HTTP/1.1 101 Switching Protocols\r\n{further}\r\n'.encode('latin-1'))
    except ConnectionClosed as error:
        raise WebSocketHandshakeError('the client has disconnected') from error
    made = WebSocket(socket, head, False, checked, server._websocket_counts, accepted.deflate, accepted.subprotocol)
    made.request = request
    # it is made again if it is needed: an idle WebSocket needs little memory
    request._headers = None
    return made


def upgrade(response: ServerResponse, **options: Unpack[AcceptOptions]) -> WebSocket:
    """Accept the WebSocket that a request asks for, in a request listener.

    The listener returns after the WebSocket was closed, or leaves it to listeners for ``'message'``. A refusal is the
    response to the request, with status 400, 403, 426 or 503. Blocks until it is queued.

    :param response: the response that the listener was called with.
    :param options: those of :func:`accept`.
    :raises WebSocketHandshakeError: the request was refused.
    :raises HeadersSent: the head of the response is fixed.
    """
    checked = _settings(options)
    request = response.request
    try:
        accepted = _check(request, response.server, options, checked.compression)
    except WebSocketHandshakeError as error:
        status = error.status or 400
        response.server._peer_log.log_refusal('websocket', '%s: %s', describe_request(request), error)
        response.should_keep_alive = False
        response.write_head(status, _refusal_fields(status))
        response.end(f'{error}\n')
        raise
    fields = merge_headers(
        {name.lower(): (name, value) for name, value in accepted.fields.items()}, options.get('headers') or {}
    )
    fields['upgrade'] = 'Upgrade', 'websocket'
    socket, head = response.upgrade(list(fields.values()))
    made = WebSocket(
        socket, head, False, checked, response.server._websocket_counts, accepted.deflate, accepted.subprotocol
    )
    made.request = request
    # it is made again if it is needed: an idle WebSocket needs little memory
    request._headers = None
    return made


@overload
def listener(handler: Handler, **options: Unpack[AcceptOptions]) -> UpgradeListener: ...


@overload
def listener(handler: None = None, **options: Unpack[AcceptOptions]) -> Callable[[Handler], UpgradeListener]: ...


def listener(handler: Handler | None = None, **options: Unpack[AcceptOptions]) -> Any:
    """Return a listener for ``'upgrade'`` that calls ``handler`` with each WebSocket.

    ``server.on('upgrade', websocket.listener(handler))``; without a handler, it is a decorator. When the handler
    returns, the WebSocket is closed with 1000, unless a listener for ``'message'`` was added. An exception of the
    handler is logged and closes with 1011; the ``WebSocketClosed`` of the WebSocket itself does not count as one. The
    listener blocks until the handler has returned. A request for another protocol, such as the ``Upgrade: h2c`` of
    clients in Java, is an ordinary request, if the server has no other listener for ``'upgrade'``.

    :param handler: a function of the :class:`WebSocket`, which has ``request``.
    :param options: those of :func:`accept`.
    :raises TypeError: the handler is a coroutine function or a generator function.
    """
    _settings(options)

    def decorate(handler: Handler) -> UpgradeListener:
        check_listener('message', handler)

        def on_upgrade(request: IncomingMessage, socket: Socket, head: bytes) -> None:
            made = accept(request, socket, head, **options)
            try:
                handler(made)
            except WebSocketClosed as error:
                finish(made, error)
            except Exception as error:
                log.error('%s: the WebSocket handler failed', describe_request(request), exc_info=error)
                made.close(INTERNAL_ERROR)
            except BaseException:
                made.destroy()
                raise
            else:
                finish(made)

        # for Server._wants_upgrade()
        on_upgrade.wants_upgrade = asks_for_websocket  # type: ignore[attr-defined]  # functions can have any
        return on_upgrade

    return decorate if handler is None else decorate(handler)


def finish(made: WebSocket, error: BaseException | None = None, code: int = 1000) -> None:
    """Close a WebSocket after its handler, unless listeners receive its messages.

    Blocks until it is closed.
    """
    if error is not None and not made.closed:
        # the error is one of another WebSocket
        log.error('%s: the WebSocket handler failed', describe_request(made.request), exc_info=error)
        code = INTERNAL_ERROR
    elif made._by_events and error is None:
        return
    made.close(code)


def _settings(options: Mapping[str, Any]) -> Settings:
    """Return the checked options of both sides.

    Those of a server alone are checked, too.
    """
    check_origins(options.get('origins'))
    check_subprotocols(options.get('subprotocols'))
    return settings(options, OWN_OPTIONS)


def _check(request: IncomingMessage, server: Any, options: Mapping[str, Any], compression: Deflate | None) -> Accepted:
    accepted = check_request(
        request,
        options.get('origins'),
        options.get('subprotocols', ()),
        compression,
    )
    if server.draining:
        raise WebSocketHandshakeError('the server is closing', 503)
    return accepted


def _further_fields(accepted: Accepted, headers: HeadersArgument | None) -> str:
    fields = merge_headers({name.lower(): (name, value) for name, value in accepted.fields.items()}, headers or {})
    fields['upgrade'] = 'Upgrade', 'websocket'
    fields['connection'] = 'Connection', 'Upgrade'
    return field_lines(fields)


def _refusal_fields(status: int) -> dict[str, str]:
    """Return the fields of a refusal.

    Source: RFC 6455, section 4.4, and RFC 9110, section 15.5.22.
    """
    if status == 426:
        return {'Upgrade': 'websocket', 'Connection': 'Upgrade', 'Sec-WebSocket-Version': VERSION}
    return {}


def _refuse(socket: Socket, error: BaseException) -> None:
    """Respond with the status of ``error``, and close the connection."""
    status = 500
    if isinstance(error, WebSocketHandshakeError):
        status = error.status or 400
    text = f'{error}\n' if status != 500 else '500 Internal Server Error\n'
    body = text.encode('ascii', 'replace')
    fields = {'Content-Type': 'text/plain; charset=utf-8', 'Content-Length': str(len(body)), **_refusal_fields(status)}
    fields['Connection'] = f'{fields["Connection"]}, close' if 'Connection' in fields else 'close'
    lines = ''.join(f'{name}: {value}\r\n' for name, value in fields.items())
    try:
        socket._send(f'HTTP/1.1 {status} {STATUS_CODES[status]}\r\n{lines}\r\n'.encode('latin-1') + body)
    except ConnectionClosed:
        return
    _Lingering(socket)


class _Lingering:
    """Let the client read the refusal before its connection is closed.

    Source: RFC 9112, section 9.6.
    """

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._expires = monotonic() + LINGER_TIME
        socket._end_nowait()
        if socket._eof:
            socket.destroy()
            return
        deadlines(get_hub()).watch(self)
        socket._set_protocol(self)
        socket._resume_reading()

    def _on_deadline(self, now: float) -> None:
        """Destroy the connection: the client had its time."""
        self._socket.destroy()

    def data_received(self, data: bytes) -> None:
        """Discard the bytes."""

    def eof_received(self) -> None:
        """Destroy the connection: the client has read everything."""
        self._socket.destroy()

    def send_failed(self, error: BaseException) -> bool:
        """See :class:`geventnode.net.socket.Protocol`."""
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        """Stop the deadline."""
        self._expires = NEVER
        deadlines(self._socket._hub).forget(self)

    def queue_drained(self) -> None:
        """See :class:`geventnode.net.socket.Protocol`."""
