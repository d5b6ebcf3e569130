"""A bare loop: a client without checks of the response beyond its status and its end, as the reference for clients.

Greenlets make the requests on kept connections, each with one send and, if the response arrives at once, one receive.
The download is a blocking loop that discards it.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

import gevent
from bench.driving import drive
from gevent.socket import create_connection

#: The connections that no request uses.
idle: list[gevent.socket.socket] = []


def ask(url: str) -> int:
    """Make a request, and return the size of the body."""
    return ask_item(url, {})


def ask_item(url: str, fields: dict[str, str]) -> int:
    """Make a request with fields of its own, and return the size of the body. Blocks until the response arrives."""
    host, _, path = url[7:].partition('/')
    if idle:
        connection = idle.pop()
    else:
        name, _, port = host.partition(':')
        connection = create_connection((name, int(port)))
    lines = ''.join([f'{name}: {value}\r\n' for name, value in fields.items()])
    connection.sendall(f'GET /{path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n'.encode())
    received = connection.recv(65536)
    while (end := received.find(b'\r\n\r\n')) < 0:
        received += connection.recv(65536)
    assert received.startswith(b'HTTP/1.1 200 ')
    place = received.index(b'Content-Length: ') + 16
    size = int(received[place : received.index(b'\r', place)])
    while len(received) < end + 4 + size:
        received += connection.recv(65536)
    idle.append(connection)
    return size


def download(url: str) -> int:
    """Return the size of a large body."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(f'GET {parts.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'.encode())
        received = connection.recv(65536)
        size = len(received) - received.index(b'\r\n\r\n') - 4
        while data := connection.recv(65536):
            size += len(data)
        return size


if __name__ == '__main__':
    drive(ask, download, lambda work, count: gevent.joinall([gevent.spawn(work) for _ in range(count)]), ask_item)
