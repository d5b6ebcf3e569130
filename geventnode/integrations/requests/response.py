"""urllib3's response over a message of this package's, and its exceptions for what goes wrong with one."""

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

#: Phases of a request in which nothing of it has reached the server.
PHASES_BEFORE_SENDING = frozenset({'queue', 'resolve', 'connect', 'handshake'})


def to_urllib3_error(error: GeventnodeError, pool: Any, url: str) -> Exception:
    """Return what urllib3 would raise for ``error``; ``error`` itself for what it has no word for."""
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
    """Call ``function``, or let the thread of ``agent`` do so, wherever the collector or another thread runs this."""
    hub = agent._hub
    try:
        current = getcurrent()
    except RuntimeError:
        # the interpreter clears up what was left in cycles, and every connection ends with the process
        return
    if _root(current) is _root(hub):
        function()
    elif hub.loop is not None:
        hub.loop.run_callback_threadsafe(function)


def _root(greenlet: Any) -> Any:
    """Return the first greenlet of a thread: what a patched ``threading`` tells apart is greenlets, not threads."""
    while greenlet.parent is not None:
        greenlet = greenlet.parent
    return greenlet


class RawResponse:
    """The body of a response, instead of the ``http.client.HTTPResponse`` that urllib3 reads from."""

    #: As of ``http.client.HTTPResponse``.
    debuglevel: int = 0

    _ready: AlwaysReadable | None = None

    def __init__(self, pool: object, request: http.ClientRequest, message: http.IncomingMessage, url: str) -> None:
        self._pool = pool
        self._request = request
        self._url = url
        self.message = message
        self.closed = False
        #: Whether it was cut off, and a reader got the error.
        self.failed = False
        #: Whether borders of chunks mean something to readers, bytes of the present chunk that were not read, and
        #: whether the last one was.
        self.chunked: bool = _is_chunked(message)
        self._chunk_left = 0
        self._last_chunk_seen = False
        #: Bytes that are to come, when the head says so.
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
        """10 or 11."""
        return self.message.http_version_major * 10 + self.message.http_version_minor

    @property
    def msg(self) -> HTTPMessage:
        """The head, as ``http.cookiejar`` wants it."""
        made = HTTPMessage()
        for name, value in self.message.raw_headers:
            made[name] = value
        return made

    headers = msg

    def getheader(self, name: str, default: Any = None) -> Any:
        """See ``http.client.HTTPResponse``."""
        found = self.msg.get_all(name)
        return default if found is None else ', '.join(found)

    def getheaders(self) -> list[tuple[str, str]]:
        """See ``http.client.HTTPResponse``."""
        return list(self.message.raw_headers)

    @property
    def length(self) -> int | None:
        """Bytes that were not read, if the head says so."""
        if self.closed:
            return 0
        return self.message.readable_length if self.message.complete and not self.chunked else self._remaining

    @property
    def will_close(self) -> bool:
        """Whether the server closes the connection after this response."""
        return not self.message._head.keep_alive

    # -- the connection -----------------------------------------------------------------------------------------------

    @property
    def fp(self) -> BodyFile | None:
        """The body as a buffered file, whose ``raw`` is the socket; None when all was read."""
        return None if self.closed and not self._last_chunk_seen else BodyFile(self)

    @property
    def sock(self) -> BodySocket:
        """The socket."""
        return socket_for(self)

    def fileno(self) -> int:
        """See :class:`ByteSource`. Raises ``OSError`` when all was read."""
        message = self.message
        if self.closed:
            raise OSError('the response was read, and its connection given back')
        return self._descriptor(bool(message.complete or message.readable_length or message._failure is not None))

    def _descriptor(self, buffered: bool) -> int:
        """Return one that is readable when there is something to read, which may be here already."""
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
            'nothing can be sent while a response is received; a server that talks another '
            'protocol answers 101 Switching Protocols'
        )

    def end(self) -> None:
        """See :class:`ByteSource`."""
        raise UnsupportedOperation('the request has ended already')

    # -- reading ------------------------------------------------------------------------------------------------------

    def isclosed(self) -> bool:
        """Return whether nothing is left to read."""
        return self.closed

    def read(self, size: int | None = None) -> bytes:
        """Return so many bytes, fewer at the end. May switch. Raises urllib3's exceptions."""
        return self._read(self.message.read, -1 if size is None else size)

    def read1(self, size: int | None = None) -> bytes:
        """Return the bytes that are there, after a wait for the first, but at most the rest of a chunk. May switch.
        Raises urllib3's exceptions."""
        if self.chunked and (left := self.read_chunk_size()):
            size = left if size is None or size < 0 else min(size, left)
        return self._read(self.message.read1, -1 if size is None else size)

    def readinto(self, buffer: Any) -> int:
        """See ``http.client.HTTPResponse``. May switch. Raises urllib3's exceptions."""
        view = memoryview(buffer).cast('B')
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def peek(self, size: int = 0) -> bytes:
        """Return the bytes that are there, after a wait for the first, and leave them there. May switch. Raises
        urllib3's exceptions."""
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
        """Bytes of the present chunk that were not read; None for a body that has no chunks."""
        return self._chunk_left if self.chunked else None

    def read_chunk_size(self) -> int:
        """Return how many bytes are left of the present chunk, or of the next one, having waited for its beginning; 0
        at the end. May switch. Raises urllib3's exceptions."""
        if self._chunk_left:
            return self._chunk_left
        sizes = self.message._chunk_sizes
        data = b'' if sizes else self.peek()
        if sizes:
            self._chunk_left = sizes.popleft()
        elif data:
            # the head names chunks, and the body has none
            return len(data)
        else:
            self._last_chunk_seen = True
        return self._chunk_left

    def _safe_read(self, size: int) -> bytes:
        """Return the given number of bytes, as urllib3 reads the data of a chunk. May switch."""
        return self.read(size)

    def _consume_chunks(self, size: int) -> None:
        """The given number of bytes was read."""
        sizes = self.message._chunk_sizes
        assert sizes is not None
        while size > self._chunk_left:
            size -= self._chunk_left
            self._chunk_left = sizes.popleft()
        self._chunk_left -= size

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        if self.closed:
            return b''
        message = self.message
        with self._translating():
            data = read(size)
            if self._remaining is not None:
                self._remaining -= len(data)
                if not self._remaining and not message.readable_ended:
                    # so that the connection is given back with the last byte
                    message.read1()
            elif self.chunked:
                self._consume_chunks(len(data))
        if message.readable_ended or (message.complete and not message.readable_length):
            self._on_end()
        return data

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        """Raise urllib3's exceptions. A body that was cut off is not over: each later read raises it again."""
        try:
            yield
        except GeventnodeError as error:
            failure = to_urllib3_error(error, self._pool, self._url)
            if failure is error:
                raise
            self.failed = True
            raise failure from error

    def _on_end(self) -> None:
        """All was read."""
        self.closed = True
        request = self._request
        if request.writable_finished or request.destroyed:
            return
        if (self.message.status_code or 0) >= 400:
            # the rest is not wanted (RFC 9110, section 10.1.1), and the server may not read it
            request.destroy()
            return
        over = Event()
        request.once('finish', over.set)
        request.once('close', over.set)
        try:
            over.wait()
        except BaseException:
            request.destroy()
            raise

    def close(self) -> None:
        """Give up the unread bytes, and their connection."""
        if not self.closed:
            self.closed = True
            self.abort()

    def abort(self) -> None:
        """Give up the exchange: a present or later reader of the body gets an error."""
        call_in_hub(self._request.agent, self._request.destroy)

    def flush(self) -> None:
        """There is nothing to flush."""


class UpgradedResponse(RawResponse):
    """The empty body after 101, and a socket that speaks another protocol."""

    def __init__(self, pool: object, request: http.ClientRequest, message: http.IncomingMessage, url: str) -> None:
        super().__init__(pool, request, message, url)
        self._timeout: float | None = request._timeout
        if message.head:
            message.socket.unshift(message.head)

    @property
    def fp(self) -> BodyFile | None:
        """As of :class:`RawResponse`."""
        return None if self.closed else BodyFile(_UpgradedStream(self))

    @property
    def sock(self) -> BodySocket:
        """As of :class:`RawResponse`."""
        return socket_for(_UpgradedStream(self))

    def read(self, size: int | None = None) -> bytes:
        """Return ``b''``, and give up the connection, which no caller has asked for."""
        self.close()
        return b''

    read1 = read

    def close(self) -> None:
        """Give up the connection."""
        self.closed = True
        self.abort()

    def abort(self) -> None:
        """Give up the connection."""
        call_in_hub(self._request.agent, self.message.socket.destroy)


class _UpgradedStream:
    """The bytes of a connection after 101, in both directions."""

    def __init__(self, upgraded: UpgradedResponse) -> None:
        self._upgraded = upgraded
        self.message = upgraded.message

    @property
    def closed(self) -> bool:
        """Whether the connection was given up."""
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
    """The origin of a response: a substitute for urllib3's connection, and of the response of ``http.client`` as far
    as cookies need it.

    urllib3 closes both when a generator over the body is left. Here the rest of the body can still be read.
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
        """Return whether nothing is left to read."""
        return self._body.closed

    def close(self) -> None:
        """Do nothing: the response closes its body."""


class Response(HTTPResponse):
    """urllib3's response, whose chunks this package has parsed."""

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
            # where there are no cookies, nobody need look for them
            original_response=origin if 'set-cookie' in headers else None,
        )
        self.version_string = f'HTTP/{message.http_version}'

    @property
    def connection(self) -> Any:
        """An object whose ``sock`` is the socket; None when all was read."""
        return None if self.closed else self._connection

    @property
    def closed(self) -> bool:
        """Whether nothing is left to read, which includes a body that was cut off."""
        return super().closed or getattr(self._fp, 'failed', False)

    def isclosed(self) -> bool:
        """See :attr:`closed`."""
        return super().isclosed() or getattr(self._fp, 'failed', False)

    def close(self) -> None:
        """Give up the unread bytes, and their connection."""
        if self._fp is not None:
            self._fp.close()
        super().close()

    def shutdown(self) -> None:
        """See urllib3: another greenlet or thread that reads gets an error. Raises ``RuntimeError``
        when there is nothing left to read."""
        if self.closed:
            raise RuntimeError('Cannot shutdown: the response was read, and its connection given back')
        self._fp.abort()

    def _update_chunk_length(self) -> None:
        # others may have read meanwhile: the body knows
        self.chunk_left = self._fp.read_chunk_size()

    def _handle_chunk(self, amt: int | None) -> bytes:
        left = self.chunk_left
        assert left is not None
        data: bytes = self._fp._safe_read(left if amt is None else min(amt, left))
        return data
