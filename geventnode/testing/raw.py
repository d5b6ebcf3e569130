"""Raw exchanges: send exact bytes, and read responses with a minimal parser.

The parser shares no code with the rest of the package, so that it cannot share its mistakes. It takes the framing from
the head and validates nothing.
"""

from __future__ import annotations

import socket as stdlib
import struct
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from gevent import socket

__all__ = ['TIMEOUT', 'RawConnection', 'RawResponse', 'raw_request']

#: Seconds after which a wait fails: a guard against tests that hang.
TIMEOUT = 30.0

_RECEIVE_SIZE = 262144

Self = TypeVar('Self', bound='RawConnection')


class RawResponse(NamedTuple):
    """A response, as it was received.

    :ivar version: as on the wire, ``'HTTP/1.1'``.
    :ivar headers: the header fields in order, as pairs of name and value.
    :ivar body: the content, without the chunked coding.
    :ivar trailers: the trailer fields, as ``headers``.
    """

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return the values of all header fields called ``name``, in any case."""
        return [value for field, value in self.headers if field.lower() == name.lower()]

    @property
    def closes(self) -> bool:
        """Whether the response announces the end of the connection (``Connection: close``)."""
        return any('close' in value.lower() for value in self.values('Connection'))


class RawConnection:
    """The client's end of a connection.

    :param endpoint: a connected cooperative socket: one of gevent's, or a :class:`~geventnode.testing.MemoryEnd`. The
        connection owns it from now on.
    :param timeout: seconds after which each wait raises ``TimeoutError``; None: never.
    """

    def __init__(self, endpoint: Any, timeout: float | None = TIMEOUT) -> None:
        endpoint.settimeout(timeout)
        #: The socket below.
        self.socket = endpoint
        self._closed = False
        self._buffer = bytearray()
        #: Whether the server has reset the connection.
        self.reset = False

    @classmethod
    def connect(cls: type[Self], where: Any, timeout: float | None = TIMEOUT) -> Self:
        """Return a new connection to ``where``.

        Blocks until it is established. Raises ``OSError``.

        :param where: a pair of host and port, or the path of a Unix socket.
        :param timeout: seconds after which this and each later wait raises ``TimeoutError``; None: never.
        """
        if isinstance(where, str):
            endpoint = socket.socket(stdlib.AF_UNIX)
            try:
                endpoint.settimeout(timeout)
                endpoint.connect(where)
            except BaseException:
                endpoint.close()
                raise
        else:
            endpoint = socket.create_connection(where, timeout)
        return cls(endpoint, timeout)

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self: Self, *pieces: bytes) -> Self:
        """Send each piece in its own call, and return the connection.

        Blocks until all of them are sent. Raises ``OSError``.
        """
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def half_close(self: Self) -> Self:
        """Shut down the sending side, and return the connection."""
        self.socket.shutdown(stdlib.SHUT_WR)
        return self

    def close(self) -> None:
        """Close the connection without a reset."""
        self._closed = True
        self.socket.close()

    def abort(self) -> None:
        """Close the connection with a reset (RST)."""
        self.socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack('ii', 1, 0))
        self.close()

    def fileno(self) -> int:
        """Return the file descriptor; -1 for a connection in memory."""
        return int(self.socket.fileno())

    # -- reading --------------------------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """Return the next bytes; empty at the end, be it a reset.

        Blocks until data arrives. Raises ``TimeoutError``.
        """
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            return data
        return self._receive()

    def rest(self) -> bytes:
        """Return all bytes up to the end of the connection.

        Blocks until the server closes. Raises ``TimeoutError``.
        """
        return b''.join(iter(self.receive, b''))

    def until(self, mark: bytes) -> bytes:
        """Return all bytes up to and including ``mark``.

        Blocks until they have arrived. Raises ``EOFError`` if the server closes earlier, and ``TimeoutError``.
        """
        start = 0
        while (found := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark))
            self._more()
        return self._take(found + len(mark))

    def exactly(self, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        Blocks until they have arrived. Raises ``EOFError`` if the server closes earlier, and ``TimeoutError``.
        """
        while len(self._buffer) < size:
            self._more()
        return self._take(size)

    def head(self) -> RawResponse:
        """Return the next response head, informational or final, with an empty body.

        Blocks until it has arrived. Raises ``EOFError`` if the server closes earlier, and ``TimeoutError``.
        """
        first, *lines = self.until(b'\r\n\r\n').decode('latin-1')[:-4].split('\r\n')
        version, status, reason = first.split(' ', 2)
        return RawResponse(version, int(status), reason, _fields(lines), b'', [])

    def response(self, method: str = 'GET') -> RawResponse:
        """Return the next final response with its body.

        Blocks until it has arrived. Raises ``EOFError`` if the server closes earlier, and ``TimeoutError``.

        :param method: the method of the request: a response to ``HEAD`` has no body.
        """
        head = self.head()
        while head.status < 200:
            head = self.head()
        trailers: list[tuple[str, str]] = []
        if method == 'HEAD' or head.status in (204, 304):
            body = b''
        elif head.values('Transfer-Encoding'):
            body, trailers = self._chunks()
        elif head.values('Content-Length'):
            body = self.exactly(int(head.values('Content-Length')[0]))
        else:
            body = self.rest()
        return head._replace(body=body, trailers=trailers)

    def get(self, target: str = '/', *fields: str) -> RawResponse:
        """Send a GET request, and return the response.

        Blocks until the response has arrived. Raises ``OSError``, ``EOFError`` if the server closes earlier, and
        ``TimeoutError``.

        :param target: the request target (RFC 9112, section 3.2).
        :param fields: header fields after ``Host``, each ``'Name: value'``.
        """
        return self.send(raw_request(target, *fields)).response()

    def assert_closed(self, *, reset: bool | None = None) -> None:
        """Assert that the server closes the connection without sending anything more.

        Blocks until it does. Raises ``AssertionError``, and ``TimeoutError`` if the server neither sends nor closes.

        :param reset: whether the connection must end with a reset; None accepts both.
        """
        rest = self.rest()
        if rest:
            raise AssertionError(f'the server sent {rest[:200]!r} before it closed the connection')
        if reset is not None and reset is not self.reset:
            raise AssertionError(
                'the connection ended with a reset' if self.reset else 'the connection ended without a reset'
            )

    def _receive(self) -> bytes:
        try:
            return bytes(self.socket.recv(_RECEIVE_SIZE))
        except ConnectionResetError:
            self.reset = True
            return b''

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _more(self) -> None:
        data = self._receive()
        if not data:
            raise EOFError(f'the server closed after {bytes(self._buffer[-200:])!r}')
        self._buffer += data

    def _chunks(self) -> tuple[bytes, list[tuple[str, str]]]:
        chunks = []
        while size := int(self.until(b'\r\n'), 16):
            chunks.append(self.exactly(size))
            if self.exactly(2) != b'\r\n':
                raise AssertionError(f'a chunk of {size} bytes does not end with CRLF')
        lines = []
        while line := self.until(b'\r\n')[:-2]:
            lines.append(line.decode('latin-1'))
        return b''.join(chunks), _fields(lines)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = 'closed' if self._closed else 'reset' if self.reset else 'open'
        return f'<{type(self).__name__} {state} unread={len(self._buffer)}>'


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    found = []
    for line in lines:
        name, colon, value = line.partition(':')
        if not colon:
            raise AssertionError(f'a field without a colon: {line!r}')
        found.append((name, value.strip(' \t')))
    return found


def raw_request(
    target: str = '/', *fields: str, method: str = 'GET', version: str = '1.1', body: bytes | None = None
) -> bytes:
    """Return the bytes of a request, without validating them.

    :param target: the request target (RFC 9112, section 3.2).
    :param fields: header fields after ``Host``, each ``'Name: value'``.
    :param body: the content, sent with ``Content-Length``; None: neither.
    """
    lines = [f'{method} {target} HTTP/{version}', 'Host: x']
    if body is not None:
        lines.append(f'Content-Length: {len(body)}')
    return ('\r\n'.join([*lines, *fields]) + '\r\n\r\n').encode('latin-1') + (body or b'')
