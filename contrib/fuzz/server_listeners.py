"""Request listeners for the fuzzed server; each treats the body in its own way."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from typing import Any

import gevent

from contrib.fuzz.unhandled import DeliberateError
from geventnode.errors import ConnectionClosed, GeventnodeError

__all__ = ['LISTENERS', 'UNREAD', 'summary', 'tunnel']

Listener = Callable[[Any, Any], None]


def summary(method: str, url: str, body: bytes) -> bytes:
    """Return a response body that identifies the request and its body."""
    return f'{method} {url} {len(body)} {zlib.crc32(body)}'.encode()


def read(request: Any, response: Any) -> None:
    """Read the body, then respond."""
    body = request.read()
    response.end(summary(request.method, request.url, body))


def read_in_pieces(request: Any, response: Any) -> None:
    """Read a few bytes at a time, then respond without a length."""
    body = b''
    while piece := request.read1(7):
        body += piece
    response.write(summary(request.method, request.url, body))
    response.end()


def events(request: Any, response: Any) -> None:
    """Read the body by events, then respond."""
    pieces: list[bytes] = []
    request.on('data', pieces.append)
    request.on('end', lambda: response.end(summary(request.method, request.url, b''.join(pieces))))


def ignore(request: Any, response: Any) -> None:
    """Respond at once."""
    response.end(summary(request.method, request.url, b''))


def later(request: Any, response: Any) -> None:
    """Return, and let another greenlet respond."""
    gevent.spawn(_respond, request, response)


def _respond(request: Any, response: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        # the peer can have disconnected meanwhile
        response.end(summary(request.method, request.url, b''))


def stream(request: Any, response: Any) -> None:
    """Begin the response before the body has arrived."""
    response.write(b'begun ')
    size = sum(len(piece) for piece in request)
    response.end(b'%d' % size)


def fail(request: Any, response: Any) -> None:
    """Raise."""
    raise DeliberateError('a listener fails')


def without_body(request: Any, response: Any) -> None:
    """Read the body, and respond with a status without content."""
    request.read()
    response.write_head(304)
    response.end(b'never sent')


LISTENERS: dict[str, Listener] = {
    'read': read,
    'read in pieces': read_in_pieces,
    'events': events,
    'ignore': ignore,
    'later': later,
    'stream': stream,
    'fail': fail,
    'without body': without_body,
}

#: The listeners that begin their response before they have read the body.
UNREAD = frozenset(('ignore', 'later', 'stream'))


def tunnel(request: Any, socket: Any, head: bytes) -> None:
    """Upgrade the connection, and read until it ends."""
    try:
        socket.write(
            b'HTTP/1.1 200 OK\r\n\r\n'
            if request.method == 'CONNECT'
            else b'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'
        )
        size = len(head) + sum(len(piece) for piece in socket)
        socket.end(b'%d' % size)
    except (GeventnodeError, OSError):
        # the peer has reset the connection
        socket.destroy()
