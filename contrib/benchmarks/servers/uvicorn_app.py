"""uvicorn with httptools and uvloop, with the handlers of ``geventnode_server.py`` as a bare ASGI application."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

__all__ = ['application']

CHUNK = b'x' * 65536
BACKLOG = 2048
TEXT = 'x' * 200

#: The default of five seconds would close idle connections during a measurement.
KEEP_ALIVE = 120


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Respond to one request."""
    path = scope['path']
    if path == '/agent':
        dict(scope['headers']).get(b'user-agent')
    if path in ('/', '/agent'):
        await text(send, b'hello world')
    elif path == '/upload':
        await upload(receive, send)
    elif path.startswith('/item/'):
        await item(scope, send)
    else:
        await download(int(scope['query_string'].partition(b'=')[2]), send)


async def text(send: Any, body: bytes) -> None:
    """Respond with a short text and its length: without it, the server would send chunks."""
    await send(
        {
            'type': 'http.response.start',
            'status': 200,
            'headers': [(b'content-type', b'text/plain'), (b'content-length', b'%d' % len(body))],
        }
    )
    await send({'type': 'http.response.body', 'body': body})


async def item(scope: dict[str, Any], send: Any) -> None:
    """Respond with an id, a body and a length that no other response has."""
    number = scope['path'][6:]
    body = f'{{"id": {number}, "text": "{TEXT[: 100 + int(number) % 97]}"}}'.encode()
    await send(
        {
            'type': 'http.response.start',
            'status': 200,
            'headers': [
                (b'content-type', b'application/json'),
                (b'content-length', b'%d' % len(body)),
                (b'x-request-id', dict(scope['headers'])[b'x-request-id']),
            ],
        }
    )
    await send({'type': 'http.response.body', 'body': body})


async def upload(receive: Any, send: Any) -> None:
    """Read the whole body, and respond with its size."""
    received = 0
    more = True
    while more:
        message = await receive()
        received += len(message['body'])
        more = message['more_body']
    await text(send, b'%d' % received)


async def download(remaining: int, send: Any) -> None:
    """Stream the given number of bytes."""
    await send(
        {
            'type': 'http.response.start',
            'status': 200,
            'headers': [(b'content-type', b'application/octet-stream'), (b'content-length', b'%d' % remaining)],
        }
    )
    while remaining:
        chunk = CHUNK[:remaining]
        remaining -= len(chunk)
        await send({'type': 'http.response.body', 'body': chunk, 'more_body': True})
    await send({'type': 'http.response.body', 'body': b''})


if __name__ == '__main__':
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        application,
        loop='uvloop',
        http='httptools',
        ws='none',
        lifespan='off',
        access_log=False,
        log_level='error',
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
    )
    uvicorn.Server(config).run(sockets=[listener])
