"""The limit of a proxy on gevent: copy bytes between two plain sockets, without HTTP."""

from __future__ import annotations

import contextlib
import socket
import sys

import gevent
import gevent.socket
from gevent.server import StreamServer

__all__ = ['copy', 'handle']

BLOCK = 65536


def handle(connection: gevent.socket.socket, address: tuple[str, int]) -> None:
    """Serve one connection. Blocks until it ends."""
    with connection, gevent.socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as upstream:
        there = gevent.spawn(copy, connection, upstream)
        copy(upstream, connection)
        there.kill()


def copy(source: gevent.socket.socket, target: gevent.socket.socket) -> None:
    """Copy bytes. Blocks until the source ends."""
    # a peer that has finished can reset the connection
    with contextlib.suppress(OSError):
        while data := source.recv(BLOCK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


if __name__ == '__main__':
    server = StreamServer(('127.0.0.1', 0), handle)
    server.start()
    print(server.server_port, flush=True)
    server.serve_forever()
