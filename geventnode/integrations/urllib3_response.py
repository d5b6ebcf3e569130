"""urllib3's response over a message of this package's, and its exceptions for what goes wrong with one."""
from __future__ import annotations

from collections.abc import Callable, Generator
from http.client import HTTPMessage
from typing import Any, cast

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

__all__ = ['BEFORE_SENDING', 'Body', 'Response', 'call_in', 'translated']

#: Phases of a request in which nothing of it has reached the server.
BEFORE_SENDING = frozenset({'queue', 'resolve', 'connect', 'handshake'})


def translated(error: GeventnodeError, pool: Any, url: str) -> Exception:
    """Return what urllib3 would raise for ``error``; ``error`` itself for what it has no word for. Never
    switches."""
    if isinstance(error, errors.RequestTimeout):
        if error.phase in BEFORE_SENDING:
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


def call_in(agent: http.Agent, function: Callable[[], object]) -> None:
    """Call ``function``, or let the thread of ``agent`` do so, wherever the collector or another thread runs this.

    Never switches."""
    hub = agent.hub
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


class Body:
    """The body of a response as a file, which urllib3 reads from; it is also what ``http.client`` has parsed the head
    of, as far as cookies need that."""

    def __init__(self, pool: object, request: http.ClientRequest, message: http.IncomingMessage,
                 url: str) -> None:
        self._pool = pool
        self._request = request
        self._url = url
        self.message = message
        self.closed = False
        #: Bytes that are to come, when the head says so.
        self._left: int | None = None
        if not message.complete and 'transfer-encoding' not in message.headers:
            length = message.headers.get('content-length')
            self._left = None if length is None else int(length)

    @property
    def msg(self) -> HTTPMessage:
        """The head, as ``http.cookiejar`` wants it."""
        made = HTTPMessage()
        for name, value in self.message.raw_headers:
            made[name] = value
        return made

    def isclosed(self) -> bool:
        """Return whether nothing is left to read."""
        return self.closed

    def read(self, size: int | None = None) -> bytes:
        """Return so many bytes, fewer at the end. May switch. Raises urllib3's exceptions."""
        return self._read(self.message.read, -1 if size is None else size)

    def read1(self, size: int | None = None) -> bytes:
        """Return what is there, having waited for something. May switch. Raises urllib3's exceptions."""
        return self._read(self.message.read1, -1 if size is None else size)

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        if self.closed:
            return b''
        message = self.message
        try:
            data = read(size)
            if self._left is not None:
                self._left -= len(data)
                if not self._left and not message.readable_ended:
                    # so that the connection is given back with the last byte
                    message.read1()
        except GeventnodeError as error:
            self.closed = True
            failure = translated(error, self._pool, self._url)
            if failure is error:
                raise
            raise failure from error
        if message.readable_ended or (message.complete and not message.readable_length):
            self._end()
        return data

    def _end(self) -> None:
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
        """Give up what was not read, and its connection. Never switches."""
        if not self.closed:
            self.closed = True
            call_in(self._request.agent, self._request.destroy)

    def flush(self) -> None:
        """There is nothing to flush."""


class Response(HTTPResponse):
    """urllib3's response, over a body that has no chunks to be told apart any more."""

    def __init__(self, body: Body, method: str, url: str) -> None:
        message = body.message
        headers = HTTPHeaderDict()
        for name, value in message.raw_headers:
            headers.add(name, value)
        super().__init__(
            cast(Any, body), headers, message.status_code or 0,
            message.http_version_major * 10 + message.http_version_minor, reason=message.status_message,
            preload_content=False, decode_content=False, request_method=method, request_url=url,
            # where there are no cookies, nobody need look for them
            original_response=cast(Any, body) if 'set-cookie' in headers else None)
        self.version_string = f'HTTP/{message.http_version}'

    def stream(self, amt: int | None = 65536, decode_content: bool | None = None) -> Generator[bytes, None, None]:
        """See urllib3: chunked bodies are handed on as they come, others in pieces of ``amt`` bytes. May switch."""
        return self.read_chunked(amt, decode_content) if self.chunked else super().stream(amt, decode_content)

    def read_chunked(self, amt: int | None = None,
                     decode_content: bool | None = None) -> Generator[bytes, None, None]:
        """See urllib3. May switch."""
        while data := self.read1(amt, decode_content):
            yield data
