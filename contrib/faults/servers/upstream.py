"""An upstream with endless bodies: ``/length``, ``/chunked``, and ``/close`` for one that ends with its connection.

It is plain gevent, without geventnode. The sockets of ``/close`` are reset when the process dies: a FIN would be the
regular end of such a body, and the truncation could not be detected (RFC 9112, section 8).
"""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

import gevent
from gevent.server import StreamServer

__all__ = ['answer']

PIECE = b'x' * 1024
FIRST = 8 * PIECE

#: The most seconds between two pieces.
INTERVAL = 2.0

HEADS = {
    b'/length': b'Content-Length: 1000000000',
    b'/chunked': b'Transfer-Encoding: chunked',
    b'/close': b'Connection: close',
}


def answer(connection: Any, peer: Any) -> None:
    """Respond to the one request of a connection, endlessly."""
    head = b''
    while not head.endswith(b'\r\n\r\n'):
        data = connection.recv(65536)
        if not data:
            return
        head += data
    path = head.split()[1]
    if path == b'/close':
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.sendall(b'HTTP/1.1 200 OK\r\n%b\r\n\r\n' % HEADS[path])
    piece = FIRST
    while True:
        connection.sendall(b'%x\r\n%b\r\n' % (len(piece), piece) if path == b'/chunked' else piece)
        gevent.sleep(random.uniform(0, INTERVAL))
        piece = PIECE


if __name__ == '__main__':
    server = StreamServer(('127.0.0.1', 0), answer, backlog=2048)
    server.start()
    print(server.server_port, flush=True)
    server.serve_forever()
