"""Every exception of this package, and the base classes that Python's own code already catches.

Each class says whose fault it is, and carries Node's ``code`` so that code ported from there finds what it looks for.
A class that stands for a broken connection is an ``OSError``, one for bad input a ``ValueError``, one for a call at the
wrong time a ``RuntimeError``; ``except GeventnodeError`` catches them all but :class:`ClientDisconnected` and
:class:`RequestRefused`, which are no ``Exception`` on purpose.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar, TypeVar

__all__ = [
    'BodyNotAllowed',
    'BodyTooLarge',
    'CertificateError',
    'ClientDisconnected',
    'ConnectError',
    'ConnectionClosed',
    'ConnectionRefused',
    'ContentLengthMismatch',
    'DisconnectReason',
    'GeventnodeError',
    'HeadersSent',
    'IncompleteBody',
    'InheritedConnection',
    'InvalidHeader',
    'InvalidInput',
    'MaxListenersExceededWarning',
    'NameNotResolved',
    'ParseError',
    'PrematureClose',
    'QueueFull',
    'RequestAborted',
    'RequestRefused',
    'RequestTimeout',
    'ServerNotRunning',
    'SocketHangUp',
    'StreamError',
    'StreamModeError',
    'TLSError',
    'UnhandledError',
    'UnknownOption',
    'WriteAfterEnd',
    'WrongThread',
    'copy_for_raising',
    'excerpt',
    'reduce_exception',
    'without_traceback',
]

EXCERPT_LENGTH = 64

_Error = TypeVar('_Error', bound=BaseException)


def excerpt(data: bytes) -> str:
    """Return ``data`` escaped and cut to a length that fits a message or a log line."""
    if len(data) <= EXCERPT_LENGTH:
        return repr(data)
    return f'{data[:EXCERPT_LENGTH]!r}... ({len(data)} bytes)'


class GeventnodeError(Exception):
    """The base of every error that this package raises."""

    #: Node's name for the error, such as ``'ECONNRESET'``.
    code: str = 'ERR_GEVENTNODE'
    #: On the client: which destination it was, and what was under way: ``'queue'``, ``'resolve'``, ``'connect'``,
    #: ``'handshake'``, ``'send'``, ``'response'`` (its head was waited for) or ``'body'``.
    host: str | None = None
    port: int | None = None
    phase: str | None = None

    def __reduce__(self) -> Any:
        return reduce_exception(self)


def reduce_exception(error: BaseException) -> Any:
    """Return the value for ``__reduce__`` of an exception whose ``__init__`` takes something else than ``args``.
    Copies, also those from ``pickle``, have the attributes; like all copies they have no cause."""
    return _rebuild, (type(error), error.args), error.__dict__ or None


def _rebuild(kind: type[_Error], args: tuple[Any, ...]) -> _Error:
    """Return an exception with ``args``, without its ``__init__``."""
    made = kind.__new__(kind, *args)
    if isinstance(made, OSError):
        # it has its number and text from either __new__ or __init__, depending on which of them a class overrides
        OSError.__init__(made, *args)
    made.args = args
    return made


def without_traceback(error: _Error) -> _Error:
    """Return ``error`` without the frames that it came through, so that it can be kept."""
    error.__context__ = None
    return error.with_traceback(None)


def copy_for_raising(error: BaseException) -> BaseException:
    """Return a copy of ``error``, to be raised by an object that keeps it.

    What was raised refers to the frames that it came through, and they to whoever keeps it: together, they could only
    be freed by the collector. An error that is not ours is returned itself.
    """
    if not isinstance(error, GeventnodeError):
        return error
    made = _rebuild(type(error), error.args)
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made


# -- the peer's fault ---------------------------------------------------------------------------------------------


class ParseError(GeventnodeError, ValueError):
    """The peer sent bytes that are not HTTP/1.1, or more of them than a limit allows.

    :ivar code: llhttp's name for the error, ``'HPE_...'``.
    :ivar status: the status with which a server answers (RFC 9110, section 15).
    :ivar offset: how many bytes of the stream were parsed before the offending ones.
    :ivar data: the offending bytes, cut to a sensible length.
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
    """A message body is longer than ``max_body_size``; a server answers 413 (RFC 9110, section 15.5.14)."""


class IncompleteBody(GeventnodeError, ConnectionResetError):
    """The connection ended in the middle of a message body (RFC 9112, section 8).

    :cvar status: the status with which a server answers, if there is anybody left to hear it.
    """

    code = 'ECONNRESET'
    status: ClassVar[int] = 400


class ConnectionClosed(GeventnodeError, BrokenPipeError):
    """The connection is gone: what was to be written or read no longer has anywhere to go."""

    code = 'EPIPE'


class ConnectError(GeventnodeError, OSError):
    """No connection could be made.

    :ivar code: the name of the errno, ``'ECONNREFUSED'``.
    :ivar host: where to; a path for a Unix socket.
    :ivar port: the port, if there is one.
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
    """Nobody listens there."""


class NameNotResolved(ConnectError):
    """The host name has no address."""

    code = 'ENOTFOUND'
    phase = 'resolve'

    def __init__(self, number: int, message: str, host: str, port: int | None = None) -> None:
        super().__init__(number, message, host, port)
        self.code = 'ENOTFOUND'


class TLSError(GeventnodeError, OSError):
    """A TLS handshake failed, or what came afterwards was not what TLS allows; its cause is what ``ssl`` said.

    :ivar code: ``'ERR_SSL_...'`` with OpenSSL's word for it, or Node's name.
    """

    code = 'ERR_SSL_PROTOCOL_ERROR'

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class CertificateError(TLSError):
    """The peer's certificate was refused; the message says why.

    :ivar code: Node's name for the reason: ``'CERT_HAS_EXPIRED'``, ``'DEPTH_ZERO_SELF_SIGNED_CERT'``,
        ``'ERR_TLS_CERT_ALTNAME_INVALID'`` (it is for other hosts) and so on.
    """

    code = 'CERT_REJECTED'


class RequestTimeout(GeventnodeError, TimeoutError):
    """The peer was too slow for a deadline; the message names the setting that decides.

    :cvar status: the status with which a server answers (RFC 9110, section 15.5.9).
    """

    code = 'ETIMEDOUT'
    status: ClassVar[int] = 408


class SocketHangUp(GeventnodeError, ConnectionResetError):
    """The connection ended before there was a response: by the server, or because the request was destroyed."""

    code = 'ECONNRESET'


class InheritedConnection(IncompleteBody, SocketHangUp):
    """The connection belongs to the process from which this one was forked; the parent goes on with the exchange."""


class PrematureClose(GeventnodeError, ConnectionResetError):
    """A stream was destroyed or closed before it ended (what ``finished`` and ``pipeline`` report)."""

    code = 'ERR_STREAM_PREMATURE_CLOSE'


class DisconnectReason(GeventnodeError, ConnectionResetError):
    """What a request keeps as its ``error`` when its client went away."""

    code = 'ECONNRESET'


class ClientDisconnected(BaseException):
    """Thrown into a request listener whose client has gone, under ``cancel_on_disconnect=True``.

    It is no ``Exception``, so that a framework's ``except Exception`` does not swallow it.
    """

    code: ClassVar[str] = 'ECONNRESET'


class RequestRefused(BaseException):
    """Raised by ``wsgi.input`` when the server has answered the request itself.

    The body was too large, malformed, late or cut short: ``__cause__`` is the error. Nothing that the application
    returns is sent. It is no ``Exception``, so that a framework neither logs it nor makes a 500 of it.
    """

    code: ClassVar[str] = 'ERR_REQUEST_REFUSED'


# -- the caller's fault -------------------------------------------------------------------------------------------


class InvalidInput(GeventnodeError, ValueError):
    """An argument that must not go onto the wire, refused by the call that received it.

    :ivar code: such as ``'ERR_INVALID_CHAR'``.
    """

    code = 'ERR_INVALID_ARG_VALUE'

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class InvalidHeader(InvalidInput):
    """A field name that is no token, or a value with characters that no field may hold (RFC 9110, section 5.5)."""

    code = 'ERR_INVALID_CHAR'


class RequestAborted(GeventnodeError, ConnectionAbortedError):
    """``abort()`` was called on the request that somebody waits for."""

    code = 'ECONNRESET'


class QueueFull(GeventnodeError, RuntimeError):
    """As many requests as ``max_queued`` allows wait for a connection already."""

    code = 'ERR_AGENT_QUEUE_FULL'


class UnknownOption(GeventnodeError, TypeError):
    """A keyword argument that nobody knows; the message names the nearest known one."""

    code = 'ERR_INVALID_ARG_VALUE'


class HeadersSent(GeventnodeError, RuntimeError):
    """The head of the message is fixed or sent: its status and headers can no longer change."""

    code = 'ERR_HTTP_HEADERS_SENT'


class ContentLengthMismatch(GeventnodeError, ValueError):
    """More bytes were written than the Content-Length that was declared."""

    code = 'ERR_HTTP_CONTENT_LENGTH_MISMATCH'


class BodyNotAllowed(GeventnodeError, ValueError):
    """The message may not have what was handed in: trailers without chunks, an informational status as a final one."""

    code = 'ERR_HTTP_BODY_NOT_ALLOWED'


class StreamError(GeventnodeError, RuntimeError):
    """A stream was used in a way that its contract excludes."""

    code = 'ERR_STREAM_INVALID_USE'


class StreamModeError(StreamError):
    """Both ways of consuming were used on one stream, or two greenlets read from it at once."""

    code = 'ERR_STREAM_MODE'


class WriteAfterEnd(StreamError):
    """Something was written to a stream after ``end()``."""

    code = 'ERR_STREAM_WRITE_AFTER_END'


class ServerNotRunning(GeventnodeError, RuntimeError):
    """The server is not listening."""

    code = 'ERR_SERVER_NOT_RUNNING'


class WrongThread(GeventnodeError, RuntimeError):
    """An object was used outside the thread (the hub) that made it."""

    code = 'ERR_WRONG_THREAD'


class UnhandledError(GeventnodeError, RuntimeError):
    """``emit('error', ...)`` was called without an exception, and nobody listened."""

    code = 'ERR_UNHANDLED_ERROR'


class MaxListenersExceededWarning(RuntimeWarning):
    """Many listeners for one event: probably one is added again and again and never removed."""
