"""The limit of gevent: fixed bytes and plain recv and send loops, with one greenlet a connection and no HTTP.

It is not an HTTP server: it reads only the first bytes of a connection, which must arrive at once, without validation.
"""

from __future__ import annotations

import contextlib
import socket

import gevent.socket
from gevent.server import StreamServer

__all__ = ['handle']

CHUNK = b'x' * 65536
BACKLOG = 2048
HELLO = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world'


def handle(connection: gevent.socket.socket, address: tuple[str, int]) -> None:
    """Serve one connection. Blocks until it ends."""
    # a peer that has finished can reset the connection
    with connection, contextlib.suppress(ConnectionResetError):
        while data := connection.recv(len(CHUNK)):
            if data.startswith(b'POST'):
                upload(connection, data)
            elif data.startswith(b'GET /download'):
                download(connection, data)
            else:
                connection.sendall(HELLO)


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
