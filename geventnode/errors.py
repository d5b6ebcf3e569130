"""Every exception of this package.

Each class has Node's ``code``, so that code ported from Node can compare it, and a built-in base class, so that
existing Python code catches it: a broken connection is an ``OSError``, bad input is a ``ValueError``, a call at the
wrong time is a ``RuntimeError``. ``except GeventnodeError`` catches all errors. :class:`ClientDisconnected` and
:class:`RequestRefused` are not errors but derive from ``BaseException``, so that ``except Exception`` in a framework
does not swallow them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

__all__ = [
    'AT_SIGNS',
    'BodyNotAllowed',
    'BodyTooLarge',
    'CertificateError',
    'ClientDisconnected',
    'ConnectError',
    'ConnectionClosed',
    'ConnectionRefused',
    'ContentLengthMismatch',
    'DisconnectReason',
    'EventQueueFull',
    'GeventnodeError',
    'HeadersSent',
    'IncompleteBody',
    'InheritedConnection',
    'InvalidHeader',
    'InvalidInput',
    'MaxListenersExceededWarning',
    'MessageTooBig',
    'NameNotResolved',
    'ParseError',
    'PingTimeout',
    'PrematureClose',
    'ProxyError',
    'QueueFull',
    'RequestAborted',
    'RequestRefused',
    'RequestTimeout',
    'SendQueueFull',
    'SendTimeout',
    'ServerNotRunning',
    'SocketHangUp',
    'StreamError',
    'StreamModeError',
    'TLSError',
    'TooManyFragments',
    'UnhandledError',
    'UnknownOption',
    'WebSocketClosed',
    'WebSocketHandshakeError',
    'WebSocketProtocolError',
    'WriteAfterEnd',
    'WrongThread',
    'copy_for_raising',
    'excerpt',
    'reduce_exception',
    'without_credentials',
    'without_traceback',
]

EXCERPT_LENGTH = 64

_Error = TypeVar('_Error', bound=BaseException)

#: The part of a URL before its authority, and that of a malformed one.
_before_authority = re.compile(r'(?:[A-Za-z][A-Za-z0-9+.-]*:)?//')
_before_credentials = re.compile(r'(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]*')

#: Characters that a URL cannot have because they look like ``@`` (Unicode TR 46), and are meant as such.
AT_SIGNS = {0xFE6B: '@', 0xFF20: '@'}

#: The authority, and a host with its port.
_authority = re.compile(r'[^/?#]*')
_host_and_port = re.compile(r'(?:\[[^\]]*\]|[^:@]*)(?::[0-9]*)?')


def excerpt(data: bytes) -> str:
    """Return ``data`` escaped and shortened for a message or a log line."""
    if len(data) <= EXCERPT_LENGTH:
        return repr(data)
    return f'{data[:EXCERPT_LENGTH]!r}... ({len(data)} bytes)'


def without_credentials(url: str) -> str:
    """Return ``url`` with ``***`` instead of user and password.

    It is for messages and log lines. If it is malformed, for instance because a delimiter in the password is not
    escaped, everything before the last ``@`` is replaced.
    """
    url = url.translate(AT_SIGNS)
    if '@' not in url or (url[0] == '/' and url[1] not in '/\\'):
        # a path alone has no authority
        return url
    before = _before_authority.match(url)
    if before is not None:
        authority: Any = _authority.match(url, before.end())
        credentials, at, host = authority[0].rpartition('@')
        if authority[0] and _host_and_port.fullmatch(host) is not None:
            return f'{before[0]}***@{url[before.end() + len(credentials) + 1 :]}' if at else url
    malformed: Any = _before_credentials.match(url)
    return f'{malformed[0]}***{url[url.rindex("@") :]}'


class GeventnodeError(Exception):
    """The base class of the errors of this package."""

    #: Node's code for the error, such as ``'ECONNRESET'``.
    code: str = 'ERR_GEVENTNODE'
    #: On the client: the host of the origin or of its proxy, or the path of a Unix socket; otherwise None.
    host: str | None = None
    #: On the client: the port of the origin or of its proxy; otherwise None.
    port: int | None = None
    #: On the client: the step that failed: ``'queue'``, ``'resolve'``, ``'connect'``, ``'tunnel'`` (through a proxy),
    #: ``'handshake'``, ``'send'``, ``'response'`` (the wait for the head of the response) or ``'body'``. Otherwise
    #: None.
    phase: str | None = None

    def __reduce__(self) -> Any:
        return reduce_exception(self)


def reduce_exception(error: BaseException) -> Any:
    """Return the result of ``__reduce__`` for an exception with its own ``__init__``.

    Copies and unpickled exceptions have the attributes of ``error``. As Python's own, they have no ``__cause__``.
    """
    return _rebuild, (type(error), error.args), error.__dict__ or None


def _rebuild(kind: type[_Error], args: tuple[Any, ...]) -> _Error:
    """Make an exception from ``args`` without calling its ``__init__``."""
    made = kind.__new__(kind, *args)
    if isinstance(made, OSError):
        # OSError sets errno and strerror in __new__ or in __init__, depending on which of them a subclass overrides
        OSError.__init__(made, *args)
    made.args = args
    return made


def without_traceback(error: _Error) -> _Error:
    """Remove traceback and context from ``error``, so that it can be stored."""
    error.__context__ = None
    return error.with_traceback(None)


def copy_for_raising(error: BaseException) -> BaseException:
    """Return a copy of a stored exception, for raising.

    A raised exception refers to the frames of its traceback, and these refer to the object that stores it: only the
    garbage collector could free such a cycle. An exception of another package is returned itself.
    """
    if not isinstance(error, GeventnodeError):
        return error
    made = _rebuild(type(error), error.args)
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made


# -- errors of the peer or the network --------------------------------------------------------------------------------


class ParseError(GeventnodeError, ValueError):
    """The peer sent invalid HTTP, or exceeded a limit.

    :ivar code: llhttp's code for the error, ``'HPE_...'``; Node's code ``'ERR_HTTP2_...'`` for frames of HTTP/2.
    :ivar status: the status code of the server's error response (RFC 9110, section 15).
    :ivar offset: the position of the invalid bytes in the stream, in bytes.
    :ivar data: the invalid bytes, at most 64.
    """

    def __init__(
        self, message: str, *, code: str = 'HPE_INVALID', status: int = 400, offset: int = 0, data: bytes = b''
    ) -> None:
        super().__init__(f'{message}: {excerpt(data)}' if data else message)
        self.code = code
        self.status = status
        self.offset = offset
        self.data = data[:EXCERPT_LENGTH]


class BodyTooLarge(ParseError):
    """A message body is longer than ``max_body_size``.

    A server responds with 413 (RFC 9110, section 15.5.14).
    """


class IncompleteBody(GeventnodeError, ConnectionResetError):
    """The connection ended before the end of a message body.

    Source: RFC 9112, section 8.

    :cvar status: the status code of the server's error response, if the connection can still carry one.
    """

    code = 'ECONNRESET'
    status: ClassVar[int] = 400


class ConnectionClosed(GeventnodeError, BrokenPipeError):
    """The connection is closed, so that nothing can be written or read."""

    code = 'EPIPE'


class ConnectError(GeventnodeError, OSError):
    """A connection could not be established.

    :ivar code: the name of the errno, such as ``'ECONNREFUSED'``.
    :ivar host: the host name or address, or the path of a Unix socket.
    :ivar port: the port; None for a Unix socket.
    :ivar phase: ``'resolve'`` or ``'connect'``.
    """

    code = 'ECONNFAILED'
    phase = 'connect'

    def __init__(self, number: int, message: str, host: str, port: int | None = None) -> None:
        where = host if port is None else f'{host}:{port}'
        super().__init__(number, f'{self.phase} {where}: {message}')
        self.code = errno.errorcode.get(number, self.code)
        self.host = host
        self.port = port


class ConnectionRefused(ConnectError, ConnectionRefusedError):
    """No server accepts connections at the address."""


class NameNotResolved(ConnectError):
    """The host name has no address."""

    code = 'ENOTFOUND'
    phase = 'resolve'

    def __init__(self, number: int, message: str, host: str, port: int | None = None) -> None:
        super().__init__(number, message, host, port)
        self.code = 'ENOTFOUND'


class ProxyError(ConnectError):
    """A proxy could not be used for a request.

    It cannot be reached, its certificate was rejected, it refused a tunnel, or its response was no HTTP. The message
    names the proxy, without its credentials. ``__cause__`` is the underlying error, if there is one.

    :ivar code: the code of the underlying error, such as ``'ECONNREFUSED'``; otherwise ``'ERR_PROXY_TUNNEL'``.
    :ivar phase: ``'resolve'``, ``'connect'``, ``'handshake'`` (TLS to the proxy) or ``'tunnel'`` (CONNECT).
    :ivar proxy: the URL of the proxy, without credentials.
    :ivar status_code: the status of the response to CONNECT; None if there was none.
    :ivar headers: the fields of that response, by lower-cased name; empty if there was none.
    """

    code = 'ERR_PROXY_TUNNEL'

    def __init__(
        self,
        proxy: str,
        problem: str,
        *,
        code: str | None = None,
        phase: str = 'tunnel',
        status_code: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        # not ConnectError's, which needs an errno
        OSError.__init__(self, f'proxy {proxy}: {problem}')
        self.proxy = proxy
        self.phase = phase
        self.status_code = status_code
        self.headers = headers or {}
        if code is not None:
            self.code = code


class TLSError(GeventnodeError, OSError):
    """A TLS handshake failed, or the peer violated the protocol later.

    Its ``__cause__`` is the exception of ``ssl``.

    :ivar code: ``'ERR_SSL_'`` with OpenSSL's reason, or Node's code.
    """

    code = 'ERR_SSL_PROTOCOL_ERROR'

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class CertificateError(TLSError):
    """The peer's certificate was rejected; the message has the reason.

    :ivar code: Node's code for the reason, such as ``'CERT_HAS_EXPIRED'``, ``'DEPTH_ZERO_SELF_SIGNED_CERT'`` or
        ``'ERR_TLS_CERT_ALTNAME_INVALID'`` (the certificate is for other hosts).
    """

    code = 'CERT_REJECTED'


class RequestTimeout(GeventnodeError, TimeoutError):
    """The peer missed a deadline; the message names the setting.

    :cvar status: the status code of the server's error response (RFC 9110, section 15.5.9).
    """

    code = 'ETIMEDOUT'
    status: ClassVar[int] = 408


class SocketHangUp(GeventnodeError, ConnectionResetError):
    """The connection ended before the response arrived.

    The server closed it, or the request was destroyed.
    """

    code = 'ECONNRESET'


class InheritedConnection(IncompleteBody, SocketHangUp):
    """The connection belongs to the parent process.

    After a fork, only the parent continues its exchanges.
    """


class PrematureClose(GeventnodeError, ConnectionResetError):
    """A stream was destroyed or closed before its end.

    :func:`~geventnode.stream.finished` and :func:`~geventnode.stream.pipeline` raise it.
    """

    code = 'ERR_STREAM_PREMATURE_CLOSE'


class DisconnectReason(GeventnodeError, ConnectionResetError):
    """The client disconnected before the exchange was over.

    A request emits it as ``'error'``.
    """

    code = 'ECONNRESET'


class ClientDisconnected(BaseException):
    """Thrown into a request listener when its client disconnects, with ``cancel_on_disconnect=True``.

    It derives from ``BaseException``, so that ``except Exception`` in a framework does not swallow it.
    """

    code: ClassVar[str] = 'ECONNRESET'


class RequestRefused(BaseException):
    """Raised by ``wsgi.input`` when the server has sent an error response itself.

    The body was too large, malformed, late or incomplete: ``__cause__`` is the error. The response of the application
    is discarded. It derives from ``BaseException``, so that a framework does not turn it into a logged 500.
    """

    code: ClassVar[str] = 'ERR_REQUEST_REFUSED'


# -- errors of WebSockets ---------------------------------------------------------------------------------------------


class WebSocketHandshakeError(GeventnodeError, ConnectionError):
    """The opening handshake of a WebSocket failed (RFC 6455, section 4).

    :ivar status: on a server, the status code of its response; on a client, that of the response, None without one.
    :ivar headers: on a client, the header fields of the response by lower-cased name.
    """

    code = 'ERR_WEBSOCKET_HANDSHAKE'

    def __init__(self, message: str, status: int | None = None, headers: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, Any] = dict(headers or {})


class WebSocketClosed(ConnectionClosed):
    """The WebSocket is closed: no message can be sent, and no further one arrives.

    :ivar close_code: the code of the close frame (RFC 6455, section 7.4): the peer's or, if this side has failed the
        connection, the one that it has sent. 1005: the frame had no code. 1006: the connection ended without a frame.
    :ivar close_reason: the text of the close frame.
    """

    code = 'ERR_WEBSOCKET_CLOSED'

    def __init__(self, message: str, close_code: int = 1006, close_reason: str = '') -> None:
        super().__init__(message)
        self.close_code = int(close_code)
        self.close_reason = close_reason


class WebSocketProtocolError(WebSocketClosed):
    """The peer has sent malformed data.

    The close code is 1002, or 1007 for malformed text and malformed compressed data.
    """

    code = 'ERR_WEBSOCKET_PROTOCOL'


class MessageTooBig(WebSocketClosed):
    """A message of the peer is longer than ``max_message_size``.

    The close code is 1009.
    """

    code = 'ERR_WEBSOCKET_MESSAGE_TOO_BIG'


class TooManyFragments(WebSocketClosed):
    """A message of the peer has more than ``max_fragments`` frames.

    The close code is 1008.
    """

    code = 'ERR_WEBSOCKET_TOO_MANY_FRAGMENTS'


class PingTimeout(WebSocketClosed, TimeoutError):
    """The peer has not responded to a ping in time.

    The connection is closed.
    """

    code = 'ETIMEDOUT'


class SendTimeout(WebSocketClosed, TimeoutError):
    """The peer has not read for ``send_timeout`` seconds while a message waited.

    The connection is closed.
    """

    code = 'ETIMEDOUT'


class SendQueueFull(GeventnodeError, RuntimeError):
    """``send_nowait()`` was called while the queue of the WebSocket had ``max_send_queue`` bytes.

    The message was not sent; the connection is open.
    """

    code = 'ERR_WEBSOCKET_SEND_QUEUE_FULL'


class EventQueueFull(GeventnodeError, RuntimeError):
    """A client of a :class:`geventnode.http.EventBroadcast` has not read ``max_send_queue`` bytes of events.

    Its response is destroyed; other clients are not affected.
    """

    code = 'ERR_EVENT_QUEUE_FULL'


# -- errors of the caller ---------------------------------------------------------------------------------------------


class InvalidInput(GeventnodeError, ValueError):
    """An argument or a setting has a value that is not allowed.

    :ivar code: Node's code, such as ``'ERR_INVALID_CHAR'``.
    """

    code = 'ERR_INVALID_ARG_VALUE'

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class InvalidHeader(InvalidInput):
    """A field name or value has invalid characters.

    Source: RFC 9110, sections 5.1 and 5.5.
    """

    code = 'ERR_INVALID_CHAR'


class RequestAborted(GeventnodeError, ConnectionAbortedError):
    """The request was aborted by ``abort()`` while a caller waited for it."""

    code = 'ECONNRESET'


class QueueFull(GeventnodeError, RuntimeError):
    """The queue of the agent already has ``max_queued`` requests."""

    code = 'ERR_AGENT_QUEUE_FULL'


class UnknownOption(GeventnodeError, TypeError):
    """A keyword argument is not an option.

    The message has the most similar one.
    """

    code = 'ERR_INVALID_ARG_VALUE'


class HeadersSent(GeventnodeError, RuntimeError):
    """The status and the headers can no longer change.

    The head of the message is fixed or sent.
    """

    code = 'ERR_HTTP_HEADERS_SENT'


class ContentLengthMismatch(GeventnodeError, ValueError):
    """More bytes were written than Content-Length declares."""

    code = 'ERR_HTTP_CONTENT_LENGTH_MISMATCH'


class BodyNotAllowed(GeventnodeError, ValueError):
    """The message cannot have the given part.

    Examples are trailers without the chunked coding, and an informational status as the final one.
    """

    code = 'ERR_HTTP_BODY_NOT_ALLOWED'


class StreamError(GeventnodeError, RuntimeError):
    """A stream was used against its contract."""

    code = 'ERR_STREAM_INVALID_USE'


class StreamModeError(StreamError):
    """Sequential reads and events were mixed, or two greenlets read at once."""

    code = 'ERR_STREAM_MODE'


class WriteAfterEnd(StreamError):
    """``write()`` was called after ``end()``."""

    code = 'ERR_STREAM_WRITE_AFTER_END'


class ServerNotRunning(GeventnodeError, RuntimeError):
    """The server is not listening."""

    code = 'ERR_SERVER_NOT_RUNNING'


class WrongThread(GeventnodeError, RuntimeError):
    """An object was used outside the thread (and hub) that created it."""

    code = 'ERR_WRONG_THREAD'


class UnhandledError(GeventnodeError, RuntimeError):
    """``'error'`` was emitted without an exception and without a listener."""

    code = 'ERR_UNHANDLED_ERROR'


class MaxListenersExceededWarning(RuntimeWarning):
    """An event has more listeners than ``set_max_listeners()`` allows.

    Usually a listener is added repeatedly and never removed.
    """
