"""The measured server, with the handlers that every other script in this directory has, too.

It listens on a free port, prints it, and serves until it is killed; with the path of a certificate, it serves HTTPS,
and with the argument ``http2``, HTTP/2 without TLS, too.
``/`` and ``/agent`` respond with a few bytes, the latter after reading a request header; ``/stated`` states the length
of the same bytes, which the server would add otherwise. ``/read`` parses JSON, ``/json`` sends 16 KiB of it,
``/chunks`` and ``/corked`` respond in ten pieces. ``/upload`` counts a body; ``/download?bytes=N`` streams N bytes.
``/item/N`` and the other paths of :data:`SHAPES` respond with an id, a body and a length that no other response has.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from geventnode import http

__all__ = ['BACKLOG', 'KEEP_ALIVE', 'SHAPES', 'handle']

CHUNK = b'x' * 65536
LARGE = b'{"text": "' + b'x' * 16372 + b'"}'
PIECE = b'x' * 100
PIECES = 10
TEXT = 'x' * 200
BACKLOG = 2048

#: The default of 65 seconds could close idle connections during a measurement on a slow machine.
KEEP_ALIVE = 120


def handle(request: Any, response: Any) -> None:
    """Respond to one request."""
    if request.url == '/':
        hello(response)
    elif request.url == '/agent':
        request.headers.get('user-agent')
        hello(response)
    elif request.url == '/read':
        read(request, response)
    elif request.url == '/json':
        response.write_head(200, {'Content-Type': 'application/json'})
        response.end(LARGE)
    elif request.url == '/chunks':
        pieces(response)
    elif request.url == '/corked':
        response.cork()
        pieces(response)
    elif request.url == '/stated':
        response.write_head(200, {'Content-Type': 'text/plain', 'Content-Length': 11})
        response.end(b'hello world')
    elif request.url == '/upload':
        upload(request, response)
    elif respond := SHAPES.get(request.url[: request.url.find('/', 1)]):
        respond(request, response)
    else:
        download(request, response)


def hello(response: Any) -> None:
    """Respond with a few fixed bytes."""
    response.write_head(200, {'Content-Type': 'text/plain'})
    response.end(b'hello world')


def read(request: Any, response: Any) -> None:
    """Parse a JSON body, and respond with the length of its text."""
    text = json.loads(request.read())['text']
    response.write_head(200, {'Content-Type': 'application/json'})
    response.end(b'{"length": %d}' % len(text))


def pieces(response: Any) -> None:
    """Respond in ten writes, as chunks."""
    response.write_head(200, {'Content-Type': 'text/plain'})
    for _ in range(PIECES):
        response.write(PIECE)
    response.end()


def upload(request: Any, response: Any) -> None:
    """Read the whole body, and respond with its size."""
    received = 0
    for chunk in request:
        received += len(chunk)
    response.write_head(200, {'Content-Type': 'text/plain'})
    response.end(b'%d' % received)


def download(request: Any, response: Any) -> None:
    """Stream the number of bytes in the query."""
    remaining = int(request.url.partition('=')[2])
    response.write_head(200, {'Content-Type': 'application/octet-stream', 'Content-Length': str(remaining)})
    while remaining:
        chunk = CHUNK[:remaining]
        response.write(chunk)
        remaining -= len(chunk)
    response.end()


# -- nothing alike ----------------------------------------------------------------------------------------------------


def item_text(url: str) -> str:
    """Return the JSON of the item that a target names."""
    slash = url.index('/', 1)
    number = url[slash + 1 : url.index('?', slash)]
    return f'{{"id": {number}, "text": "{TEXT[: 100 + int(number) % 97]}"}}'


def stated(request: Any, response: Any) -> None:
    """Respond with a head that states the length of the body."""
    body = item_text(request.url).encode()
    response.write_head(
        200,
        {
            'Content-Type': 'application/json',
            'Content-Length': len(body),
            'X-Request-Id': request.headers['x-request-id'],
        },
    )
    response.end(body)


def unstated(request: Any, response: Any) -> None:
    """Leave the length to the server."""
    body = item_text(request.url).encode()
    response.write_head(200, {'Content-Type': 'application/json', 'X-Request-Id': request.headers['x-request-id']})
    response.end(body)


def set_fields(request: Any, response: Any) -> None:
    """Set the fields one by one, and send text."""
    response.set_header('Content-Type', 'application/json')
    response.set_header('X-Request-Id', request.headers['x-request-id'])
    response.end(item_text(request.url))


def set_cookie(request: Any, response: Any) -> None:
    """Set a cookie of this client's own."""
    identifier = request.headers['x-request-id']
    body = item_text(request.url).encode()
    response.write_head(
        200,
        {
            'Content-Type': 'application/json',
            'Set-Cookie': f'session={identifier}; Path=/; HttpOnly',
            'X-Request-Id': identifier,
        },
    )
    response.end(body)


def redirect(request: Any, response: Any) -> None:
    """Send the client to another path of the item's."""
    response.write_head(302, {'Location': f'/other{request.url}', 'X-Request-Id': request.headers['x-request-id']})
    response.end()


def not_modified(request: Any, response: Any) -> None:
    """Report that the client has the item already."""
    identifier = request.headers['x-request-id']
    response.write_head(304, {'ETag': f'"{identifier}"', 'X-Request-Id': identifier})
    response.end()


SHAPES: dict[str, Callable[[Any, Any], None]] = {
    '/item': stated,
    '/unstated': unstated,
    '/set': set_fields,
    '/cookie': set_cookie,
    '/redirect': redirect,
    '/not_modified': not_modified,
}


if __name__ == '__main__':
    if sys.argv[1:] == ['http2']:
        server = http.create_server(handle, keep_alive_timeout=KEEP_ALIVE, http2=True)
    elif len(sys.argv) > 1:
        from geventnode import https

        server = https.create_server(handle, certfile=sys.argv[1], keep_alive_timeout=KEEP_ALIVE)
    else:
        server = http.create_server(handle, keep_alive_timeout=KEEP_ALIVE)
    server.listen(0, '127.0.0.1', BACKLOG)
    print(server.address()['port'], flush=True)
    server.serve_forever()
