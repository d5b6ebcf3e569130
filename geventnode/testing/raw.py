"""Raw exchanges: exactly these bytes are sent, and what comes back is read with as little understanding as possible.

A response is read by code of its own, which shares nothing with the package, so that it cannot share its mistakes: it
takes framing from the head, and believes everything.
"""

from __future__ import annotations

import socket as stdlib
import struct
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from gevent import socket

__all__ = ['TIMEOUT', 'RawConnection', 'RawResponse', 'raw_request']

#: Seconds that a wait may take: a guard against tests that hang.
TIMEOUT = 30.0

_RECEIVE_SIZE = 262144

Self = TypeVar('Self', bound='RawConnection')


class RawResponse(NamedTuple):
    """What came back."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return the values of all header fields of that name, in any case."""
        return [value for field, value in self.headers if field.lower() == name.lower()]

    @property
    def closes(self) -> bool:
        """Whether the server said that it will close the connection."""
        return any('close' in value.lower() for value in self.values('Connection'))


class RawConnection:
    """One connection, seen from the client's end.

    :param endpoint: a connected cooperative socket, one of gevent's, or a
        :class:`~geventnode.testing.memory.MemoryEnd`; it is taken over.
    :param timeout: seconds after which a wait ends with ``TimeoutError``; None: never.
    """

    def __init__(self, endpoint: Any, timeout: float | None = TIMEOUT) -> None:
        endpoint.settimeout(timeout)
        #: The socket that was handed in.
        self.socket = endpoint
        self._closed = False
        self._buffer = bytearray()
        #: Whether the connection ended with a reset.
        self.reset = False

    @classmethod
    def connect(cls: type[Self], where: Any, timeout: float | None = TIMEOUT) -> Self:
        """Return a connection to ``where``: a host and a port, or the path of a Unix socket. May switch. Raises
        ``OSError``."""
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
        """Send each piece in a call of its own; return the connection. May switch. Raises ``OSError``."""
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def half_close(self: Self) -> Self:
        """Say that nothing more will be sent, and go on reading; return the connection."""
        self.socket.shutdown(stdlib.SHUT_WR)
        return self

    def close(self) -> None:
        """Close in good order."""
        self._closed = True
        self.socket.close()

    def abort(self) -> None:
        """Close with a reset."""
        self.socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack('ii', 1, 0))
        self.close()

    def fileno(self) -> int:
        """Return the descriptor; -1 in memory."""
        return int(self.socket.fileno())

    # -- reading --------------------------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """Return what comes next; empty at the end, of whatever kind. May switch. Raises ``TimeoutError``."""
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            return data
        return self._receive()

    def rest(self) -> bytes:
        """Return everything until the server closes. May switch. Raises ``TimeoutError``."""
        return b''.join(iter(self.receive, b''))

    def until(self, mark: bytes) -> bytes:
        """Return everything up to and with ``mark``. May switch. Raises ``EOFError`` when the server closes before,
        ``TimeoutError``."""
        start = 0
        while (found := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark))
            self._more()
        return self._take(found + len(mark))

    def exactly(self, size: int) -> bytes:
        """Return so many bytes. May switch. Raises ``EOFError`` when the server closes before, ``TimeoutError``."""
        while len(self._buffer) < size:
            self._more()
        return self._take(size)

    def head(self) -> RawResponse:
        """Return the next head, be it informational, without a body. May switch. Raises ``EOFError``,
        ``TimeoutError``."""
        first, *lines = self.until(b'\r\n\r\n').decode('latin-1')[:-4].split('\r\n')
        version, status, reason = first.split(' ', 2)
        return RawResponse(version, int(status), reason, _fields(lines), b'', [])

    def response(self, method: str = 'GET') -> RawResponse:
        """Return the next response that is not informational. May switch. Raises ``EOFError``, ``TimeoutError``.

        :param method: that of the request: one to ``HEAD`` has no body.
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
        """Send a GET with these ``fields``, each ``'Name: value'``, and return the response. May switch. Raises
        ``OSError``, ``EOFError``, ``TimeoutError``."""
        return self.send(raw_request(target, *fields)).response()

    def assert_closed(self, *, reset: bool | None = None) -> None:
        """Raise ``AssertionError`` unless the server closes, and says nothing more before. May switch. Raises
        ``TimeoutError`` when it does neither.

        :param reset: whether the connection must end with a reset; None: it may.
        """
        rest = self.rest()
        if rest:
            raise AssertionError(f'before it closed, the server said {rest[:200]!r}')
        if reset is not None and reset is not self.reset:
            raise AssertionError(
                'the connection ended with a reset'
                if self.reset
                else 'the connection ended in good order, without a reset'
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
    """Return the bytes of a request. Nothing is checked.

    :param fields: header fields behind ``Host``, each ``'Name: value'``.
    :param body: what follows, announced by ``Content-Length``; None: nothing, and nothing is announced.
    """
    lines = [f'{method} {target} HTTP/{version}', 'Host: x']
    if body is not None:
        lines.append(f'Content-Length: {len(body)}')
    return ('\r\n'.join([*lines, *fields]) + '\r\n\r\n').encode('latin-1') + (body or b'')
