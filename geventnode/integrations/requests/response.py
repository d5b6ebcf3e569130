"""Adapt responses and errors of the client to urllib3."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from io import UnsupportedOperation
from typing import Any, cast

import gevent
from gevent import getcurrent
from gevent.event import Event
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    InvalidHeader,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from geventnode import errors, http
from geventnode.errors import GeventnodeError
from geventnode.integrations.requests.sockets import AlwaysReadable, BodyFile, BodySocket, socket_for
from geventnode.protocol import Framing

__all__ = [
    'PHASES_BEFORE_SENDING',
    'RawResponse',
    'Response',
    'ResponseConnection',
    'UpgradedResponse',
    'call_in_hub',
    'to_urllib3_error',
]

#: Phases of a request before its first byte is sent.
PHASES_BEFORE_SENDING = frozenset({'queue', 'resolve', 'connect', 'handshake'})


def to_urllib3_error(error: GeventnodeError, pool: Any, url: str) -> Exception:
    """Return urllib3's exception for ``error``; ``error`` itself if there is none."""
    if isinstance(error, errors.RequestTimeout):
        if error.phase in PHASES_BEFORE_SENDING:
            return ConnectTimeoutError(pool, str(error))
        return ReadTimeoutError(pool, url, f'Read timed out: {error}')
    if isinstance(error, errors.ConnectError | errors.QueueFull):
        return NewConnectionError(pool, str(error))
    if isinstance(error, errors.TLSError):
        return SSLError(error)
    if isinstance(error, errors.InvalidHeader):
        return InvalidHeader(str(error))
    if isinstance(error, errors.ParseError):
        return (InvalidHeader if 'CONTENT_LENGTH' in error.code else ProtocolError)(str(error))
    if isinstance(error, ConnectionError):
        return ProtocolError(f'Connection {"broken" if error.phase == "body" else "aborted"}: {error}', error)
    return error


def call_in_hub(agent: http.Agent, function: Callable[[], object]) -> None:
    """Call ``function`` in the thread of ``agent``.

    In that thread, it is called at once. The garbage collector and other threads can call this.
    """
    hub = agent._hub
    try:
        current = getcurrent()
    except RuntimeError:
        # the interpreter is finalizing: every connection is closed with the process
        return
    if _root(current) is _root(hub):
        function()
    elif hub.loop is not None:
        hub.loop.run_callback_threadsafe(function)


def _root(greenlet: Any) -> Any:
    """Return the main greenlet of a thread. With patching, ``threading`` identifies greenlets and not threads."""
    while greenlet.parent is not None:
        greenlet = greenlet.parent
    return greenlet


class RawResponse:
    """Substitute for ``http.client.HTTPResponse``, from which urllib3 reads the body."""

    #: See ``http.client.HTTPResponse``.
    debuglevel: int = 0

    _ready: AlwaysReadable | None = None

    def __init__(self, pool: object, request: http.ClientRequest, message: http.IncomingMessage, url: str) -> None:
        self._pool = pool
        self._request = request
        self._url = url
        self.message = message
        self.closed = False
        #: Whether the body is incomplete, and a reader got the error.
        self.failed = False
        #: Whether the body is chunked, the number of unread bytes of the current chunk, and whether the last chunk was
        #: read. Readers can ask for single chunks.
        self.chunked: bool = _is_chunked(message)
        self._chunk_left = 0
        self._last_chunk_seen = False
        #: The number of unread bytes if Content-Length is known.
        self._remaining: int | None = None
        if not message.complete and not self.chunked:
            length = message.headers.get('content-length')
            self._remaining = None if length is None else int(length)

    # -- the head -----------------------------------------------------------------------------------------------------

    @property
    def status(self) -> int:
        """The status code."""
        return self.message.status_code

    code = status

    @property
    def reason(self) -> str:
        """The reason phrase."""
        return self.message.status_message

    @property
    def version(self) -> int:
        """The version of HTTP: 10 or 11."""
        return self.message.http_version_major * 10 + self.message.http_version_minor

    @property
    def msg(self) -> HTTPMessage:
        """The header fields for ``http.cookiejar``."""
        fields = HTTPMessage()
        for name, value in self.message.raw_headers:
            fields[name] = value
        return fields

    headers = msg

    def getheader(self, name: str, default: Any = None) -> Any:
        """Return the joined values of a field; see ``http.client.HTTPResponse``."""
        found = self.msg.get_all(name)
        return default if found is None else ', '.join(found)

    def getheaders(self) -> list[tuple[str, str]]:
        """Return the header fields; see ``http.client.HTTPResponse``."""
        return list(self.message.raw_headers)

    @property
    def length(self) -> int | None:
        """The number of unread bytes, None if it is unknown."""
        if self.closed:
            return 0
        return self.message.readable_length if self.message.complete and not self.chunked else self._remaining

    @property
    def will_close(self) -> bool:
        """Whether the server closes the connection after the response."""
        return not self.message._head.keep_alive

    # -- the connection -----------------------------------------------------------------------------------------------

    @property
    def fp(self) -> BodyFile | None:
        """The body as a buffered file; None after the last byte."""
        return None if self.closed and not self._last_chunk_seen else BodyFile(self)

    @property
    def sock(self) -> BodySocket:
        """The socket."""
        return socket_for(self)

    def fileno(self) -> int:
        """See :class:`ByteSource`. Raises ``OSError`` after the last byte."""
        message = self.message
        if self.closed:
            raise OSError('the response was read to its end, and its connection returned to the pool')
        return self._descriptor(bool(message.complete or message.readable_length or message._failure is not None))

    def _descriptor(self, buffered: bool) -> int:
        """Return a descriptor that is readable when bytes are, even ``buffered`` ones."""
        if buffered:
            if self._ready is None:
                self._ready = AlwaysReadable()
            return self._ready.fileno()
        number: int = self.message.socket._raw.fileno()
        return number

    @property
    def timeout(self) -> float | None:
        """See :class:`ByteSource`."""
        return self._request._timeout

    def set_timeout(self, seconds: float | None) -> None:
        """See :class:`ByteSource`."""
        self._request.set_timeout(seconds or 0)

    def write(self, data: bytes) -> None:
        """See :class:`ByteSource`."""
        raise UnsupportedOperation(
            'the socket cannot send while a response is received; for another protocol, the server must answer '
            '101 Switching Protocols'
        )

    def end(self) -> None:
        """See :class:`ByteSource`."""
        raise UnsupportedOperation('the request was already sent')

    # -- reading ------------------------------------------------------------------------------------------------------

    def isclosed(self) -> bool:
        """Return whether the body was read to its end."""
        return self.closed

    def read(self, size: int | None = None) -> bytes:
        """Return ``size`` bytes, fewer at the end; all without ``size``.

        Blocks until they have arrived. Raises urllib3's exceptions.
        """
        return self._read(self.message.read, -1 if size is None else size)

    def read1(self, size: int | None = None) -> bytes:
        """Return available bytes, at most the rest of a chunk.

        Blocks until the first byte has arrived. Raises urllib3's exceptions.
        """
        if self.chunked and (left := self.read_chunk_size()):
            size = left if size is None or size < 0 else min(size, left)
        # as in http.client, a chunked body is open until b'' was read: a TextIOWrapper reads on
        return self._read(self.message.read1, -1 if size is None else size, ends=not self.chunked)

    def readinto(self, buffer: Any) -> int:
        """Read into ``buffer``; see :meth:`read`."""
        view = memoryview(buffer).cast('B')
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def peek(self, size: int = 0) -> bytes:
        """Return available bytes without consuming them.

        Blocks until the first byte has arrived. Raises urllib3's exceptions.
        """
        if self.closed:
            return b''
        message = self.message
        with self._translating():
            data: bytes = message.read1()
        if data:
            message.unshift(data)
        else:
            self._on_end()
        return data

    # -- chunks -------------------------------------------------------------------------------------------------------

    @property
    def chunk_left(self) -> int | None:
        """The number of unread bytes of the chunk; None without chunks."""
        return self._chunk_left if self.chunked else None

    def read_chunk_size(self) -> int:
        """Return the unread bytes of the current chunk, 0 at the end.

        Without any, it begins the next chunk. Blocks until its size has arrived. Raises urllib3's exceptions.
        """
        if self._chunk_left:
            return self._chunk_left
        sizes = self.message._chunk_sizes
        data = b'' if sizes else self.peek()
        if sizes:
            self._chunk_left = sizes.popleft()
        elif data:
            # decoded bytes without the size of a chunk
            return len(data)
        else:
            self._last_chunk_seen = True
        return self._chunk_left

    def _safe_read(self, size: int) -> bytes:
        """Return ``size`` bytes of a chunk, as urllib3 reads them."""
        return self.read(size)

    def _consume_chunks(self, size: int) -> None:
        """Subtract ``size`` read bytes from the chunks."""
        sizes = self.message._chunk_sizes
        assert sizes is not None
        while size > self._chunk_left:
            size -= self._chunk_left
            self._chunk_left = sizes.popleft()
        self._chunk_left -= size

    def _read(self, read: Callable[[int], bytes], size: int, ends: bool = True) -> bytes:
        """Read, and mark the body as read after its last byte.

        :param ends: False to mark it only when ``b''`` is returned.
        """
        if self.closed:
            return b''
        message = self.message
        with self._translating():
            data = read(size)
            if self._remaining is not None:
                self._remaining -= len(data)
                if not self._remaining and not message.readable_ended:
                    # reads the end, so that the connection is idle after the last byte
                    message.read1()
            elif self.chunked:
                self._consume_chunks(len(data))
        if (ends or not data) and (message.readable_ended or (message.complete and not message.readable_length)):
            self._on_end()
        return data

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        """Raise urllib3's exceptions. Each read of an incomplete body raises again."""
        try:
            yield
        except GeventnodeError as error:
            failure = to_urllib3_error(error, self._pool, self._url)
            if failure is error:
                raise
            self.failed = True
            raise failure from error

    def _on_end(self) -> None:
        """Mark the body as read, and wait until the request is sent."""
        self.closed = True
        request = self._request
        if request.writable_finished or request.destroyed:
            return
        if (self.message.status_code or 0) >= 400:
            # the server has refused the request, and need not read the rest (RFC 9110, section 10.1.1)
            request.destroy()
            return
        finished = Event()
        request.once('finish', finished.set)
        request.once('close', finished.set)
        try:
            finished.wait()
        except BaseException:
            request.destroy()
            raise

    def close(self) -> None:
        """Close the response. Unread bytes close its connection, too."""
        if not self.closed:
            self.closed = True
            self.abort()

    def abort(self) -> None:
        """Abort the exchange: the current or next reader of the body gets an error."""
        call_in_hub(self._request.agent, self._request.destroy)

    def flush(self) -> None:
        """Do nothing: the file has no buffer for writing."""


class UpgradedResponse(RawResponse):
    """A response with status 101: no body, and a socket for another protocol."""

    def __init__(self, pool: object, request: http.ClientRequest, message: http.IncomingMessage, url: str) -> None:
        super().__init__(pool, request, message, url)
        self._timeout: float | None = request._timeout
        if message.head:
            message.socket.unshift(message.head)

    @property
    def fp(self) -> BodyFile | None:
        """See :class:`RawResponse`."""
        return None if self.closed else BodyFile(_UpgradedStream(self))

    @property
    def sock(self) -> BodySocket:
        """See :class:`RawResponse`."""
        return socket_for(_UpgradedStream(self))

    def read(self, size: int | None = None) -> bytes:
        """Return ``b''`` and close the connection, which the caller does not use."""
        self.close()
        return b''

    read1 = read

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self.abort()

    def abort(self) -> None:
        """Close the connection."""
        call_in_hub(self._request.agent, self.message.socket.destroy)


class _UpgradedStream:
    """The bytes of a connection after 101, as a :class:`ByteSource`."""

    def __init__(self, upgraded: UpgradedResponse) -> None:
        self._upgraded = upgraded
        self.message = upgraded.message

    @property
    def closed(self) -> bool:
        """Whether the connection was closed."""
        return self._upgraded.closed

    def fileno(self) -> int:
        """See :class:`ByteSource`."""
        found = self.message.socket
        return self._upgraded._descriptor(bool(found.readable_length or found.destroyed or found._eof))

    @property
    def timeout(self) -> float | None:
        """See :class:`ByteSource`."""
        return self._upgraded._timeout

    def set_timeout(self, seconds: float | None) -> None:
        """See :class:`ByteSource`."""
        self._upgraded._timeout = seconds

    def read(self, size: int | None = None) -> bytes:
        """See :class:`ByteSource`."""
        return self._read(self.message.socket.read, size)

    def read1(self, size: int | None = None) -> bytes:
        """See :class:`ByteSource`."""
        return self._read(self.message.socket.read1, size)

    def _read(self, read: Callable[[int], bytes], size: int | None) -> bytes:
        seconds = self._upgraded._timeout
        with gevent.Timeout(seconds, TimeoutError('timed out')):
            return read(-1 if size is None else size)

    def peek(self) -> bytes:
        """See :class:`ByteSource`."""
        data = self.read1()
        if data:
            self.message.socket.unshift(data)
        return data

    def write(self, data: bytes) -> None:
        """See :class:`ByteSource`."""
        self.message.socket.write(data)

    def end(self) -> None:
        """See :class:`ByteSource`."""
        call_in_hub(self._upgraded._request.agent, self.message.socket._end_nowait)

    def close(self) -> None:
        """See :class:`ByteSource`."""
        self._upgraded.close()

    abort = close


def _is_chunked(message: http.IncomingMessage) -> bool:
    return message._head.framing is Framing.CHUNKED


class ResponseConnection:
    """Substitute for urllib3's connection and, for cookies, for ``http.client.HTTPResponse``.

    urllib3 closes both when a generator over the body is closed. Here the rest of the body can still be read.
    """

    __slots__ = ('_body', '_method')

    def __init__(self, body: RawResponse, method: str) -> None:
        self._body = body
        self._method = method

    @property
    def sock(self) -> BodySocket:
        """The socket."""
        return self._body.sock

    @property
    def msg(self) -> HTTPMessage:
        """The head, as ``http.cookiejar`` wants it."""
        return self._body.msg

    def isclosed(self) -> bool:
        """Return whether the body was read to its end."""
        return self._body.closed

    def close(self) -> None:
        """Do nothing: the response closes its body."""


class Response(HTTPResponse):
    """urllib3's response for a body that the agent decodes."""

    _fp: Any

    def __init__(self, body: RawResponse, method: str, url: str) -> None:
        message = body.message
        headers = HTTPHeaderDict()
        for name, value in message.raw_headers:
            headers.add(name, value)
        origin = cast(Any, ResponseConnection(body, method))
        super().__init__(
            cast(Any, body),
            headers,
            message.status_code or 0,
            message.http_version_major * 10 + message.http_version_minor,
            reason=message.status_message,
            preload_content=False,
            decode_content=False,
            request_method=method,
            request_url=url,
            connection=origin,
            # only a response with cookies needs it
            original_response=origin if 'set-cookie' in headers else None,
        )
        self.version_string = f'HTTP/{message.http_version}'

    @property
    def connection(self) -> Any:
        """An object with the socket as ``sock``; None after the last byte."""
        return None if self.closed else self._connection

    @property
    def closed(self) -> bool:
        """Whether the body was read to its end, or is incomplete."""
        return super().closed or getattr(self._fp, 'failed', False)

    def isclosed(self) -> bool:
        """See :attr:`closed`."""
        return super().isclosed() or getattr(self._fp, 'failed', False)

    def close(self) -> None:
        """Close the response. Unread bytes close its connection, too."""
        if self._fp is not None:
            self._fp.close()
        super().close()

    def shutdown(self) -> None:
        """Let another greenlet or thread that reads get an error; see urllib3.

        Raises ``RuntimeError`` after the last byte.
        """
        if self.closed:
            raise RuntimeError(
                'Cannot shutdown: the response was read to its end, and its connection returned to the pool'
            )
        self._fp.abort()

    def _update_chunk_length(self) -> None:
        # the body can have been read without this object
        self.chunk_left = self._fp.read_chunk_size()

    def _handle_chunk(self, amt: int | None) -> bytes:
        left = self.chunk_left
        assert left is not None
        data: bytes = self._fp._safe_read(left if amt is None else min(amt, left))
        return data
