"""The limit of gevent: fixed bytes and plain recv and send loops, with one greenlet a connection and no HTTP.

It is not an HTTP server: it takes the bytes that arrive at once for one request, and validates nothing. For ``/item/``
it splits them into fields, and sends a head and a body with an id and a length of their own, which every server in
Python must do. ``/chunks`` sends as often as ten writes and the end of a response do.
"""

from __future__ import annotations

import contextlib
import socket

import gevent.socket
from gevent.server import StreamServer

__all__ = ['handle']

CHUNK = b'x' * 65536
BACKLOG = 2048
TEXT = b'x' * 200
PIECES = 10
PIECE = b'64\r\n' + b'x' * 100 + b'\r\n'
LAST_CHUNK = b'0\r\n\r\n'
CHUNKED = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n'
HELLO = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world'


def handle(connection: gevent.socket.socket, address: tuple[str, int]) -> None:
    """Serve one connection. Blocks until it ends."""
    # a peer that has finished can reset the connection
    with connection, contextlib.suppress(ConnectionResetError):
        while data := connection.recv(len(CHUNK)):
            if data.startswith(b'GET /item/'):
                connection.sendall(item(data))
            elif data.startswith(b'GET /chunks'):
                chunks(connection)
            elif data.startswith(b'POST'):
                upload(connection, data)
            elif data.startswith(b'GET /download'):
                download(connection, data)
            else:
                connection.sendall(HELLO)


def item(data: bytes) -> bytes:
    """Return the response to the request for an item."""
    first, *lines = data[:-4].split(b'\r\n')
    target = first.split(b' ')[1]
    fields = {}
    for line in lines:
        name, _, value = line.partition(b': ')
        fields[name.lower()] = value
    number = target[6 : target.index(b'?')]
    body = b'{"id": %b, "text": "%b"}' % (number, TEXT[: 100 + int(number) % 97])
    return b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: %b\r\n\r\n%b' % (
        len(body),
        fields[b'x-request-id'],
        body,
    )


def chunks(connection: gevent.socket.socket) -> None:
    """Send a body in ten pieces, the first one with the head. Blocks until they are sent."""
    connection.sendall(CHUNKED + PIECE)
    for _ in range(PIECES - 1):
        connection.sendall(PIECE)
    connection.sendall(LAST_CHUNK)


def upload(connection: gevent.socket.socket, data: bytes) -> None:
    """Receive the announced bytes, and respond with their number. Blocks until they arrive."""
    head, _, body = data.partition(b'\r\n\r\n')
    size = int(head.lower().partition(b'content-length:')[2].split()[0])
    received = len(body)
    while received < size and (more := connection.recv(len(CHUNK))):
        received += len(more)
    answer = b'%d' % received
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b' % (len(answer), answer))


def download(connection: gevent.socket.socket, data: bytes) -> None:
    """Send the number of bytes in the query. Blocks until they are sent."""
    remaining = int(data.partition(b'=')[2].split()[0])
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % remaining)
    while remaining:
        chunk = CHUNK[:remaining]
        connection.sendall(chunk)
        remaining -= len(chunk)


if __name__ == '__main__':
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    StreamServer(listener, handle).serve_forever()
