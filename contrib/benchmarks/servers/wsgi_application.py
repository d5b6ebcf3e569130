"""The handlers of ``geventnode_server.py`` as a WSGI application."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ['BACKLOG', 'application']

CHUNK = b'x' * 65536
BACKLOG = 2048
TEXT = 'x' * 200


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Respond to one request."""
    path = environ['PATH_INFO']
    if path == '/agent':
        environ.get('HTTP_USER_AGENT')
    if path in ('/', '/agent'):
        return text(start_response, b'hello world')
    if path == '/upload':
        received = 0
        while chunk := environ['wsgi.input'].read(len(CHUNK)):
            received += len(chunk)
        return text(start_response, b'%d' % received)
    if path.startswith('/item/'):
        return item(environ, start_response)
    size = int(environ['QUERY_STRING'].partition('=')[2])
    start_response('200 OK', [('Content-Type', 'application/octet-stream'), ('Content-Length', str(size))])
    return chunks(size)


def text(start_response: Any, body: bytes) -> Iterable[bytes]:
    """Respond with a short text and its length, which not every server adds itself."""
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]


def item(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Respond with an id, a body and a length that no other response has."""
    number = environ['PATH_INFO'][6:]
    body = f'{{"id": {number}, "text": "{TEXT[: 100 + int(number) % 97]}"}}'.encode()
    start_response(
        '200 OK',
        [
            ('Content-Type', 'application/json'),
            ('Content-Length', str(len(body))),
            ('X-Request-Id', environ['HTTP_X_REQUEST_ID']),
        ],
    )
    return [body]


def chunks(remaining: int) -> Iterator[bytes]:
    """Yield a body in pieces."""
    while remaining:
        chunk = CHUNK[:remaining]
        yield chunk
        remaining -= len(chunk)
