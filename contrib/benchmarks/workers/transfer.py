"""The peer of one transfer: a bare blocking socket at minimal cost, so that the server limits the rate.

    python transfer.py PORT upload|download BYTES

An upload is sent from a memory file with sendfile(2), a download is discarded in the kernel (MSG_TRUNC, tcp(7)):
neither copies a byte in this process. Prints one line of JSON: the wall time and the processor time, in seconds.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

__all__ = ['download', 'read_head', 'upload']

BLOCK = 2**20
ANSWER_TIMEOUT = 120


def upload(connection: socket.socket, size: int) -> None:
    """Send a body of ``size`` bytes, and check the number in the response. Raises ``ValueError``."""
    source = os.memfd_create('body')
    os.write(source, b'y' * BLOCK)
    connection.sendall(b'POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n' % size)
    remaining = size
    while remaining:
        remaining -= os.sendfile(connection.fileno(), source, 0, min(BLOCK, remaining))
    length, body = read_head(connection)
    while len(body) < length and (data := connection.recv(BLOCK)):
        body += data
    if body != b'%d' % size:
        raise ValueError(f'{size} bytes sent, answered {body!r}')


def download(connection: socket.socket, size: int) -> None:
    """Request ``size`` bytes, and count them. Raises ``ValueError``."""
    connection.sendall(b'GET /download?bytes=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n' % size)
    length, body = read_head(connection)
    received = len(body)
    nowhere = bytearray(BLOCK)
    while received < length:
        count = connection.recv_into(nowhere, min(BLOCK, length - received), socket.MSG_TRUNC)
        if not count:
            break
        received += count
    if received != size:
        raise ValueError(f'{size} bytes wanted, {received} received')


def read_head(connection: socket.socket) -> tuple[int, bytes]:
    """Read a head; return its Content-Length and the part of the body that was read. Raises ``ValueError``."""
    data = b''
    while b'\r\n\r\n' not in data:
        more = connection.recv(65536)
        if not more:
            raise ValueError(f'the connection was closed after {data!r}')
        data += more
    head, _, body = data.partition(b'\r\n\r\n')
    if not head.startswith(b'HTTP/1.1 200 '):
        raise ValueError(f'answered {head!r}')
    return int(head.lower().partition(b'content-length:')[2].split()[0]), body


def main() -> None:
    """Make one transfer."""
    port, direction, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with socket.create_connection(('127.0.0.1', port)) as connection:
        # a kernel timeout: Python's own makes the socket non-blocking
        limit = ANSWER_TIMEOUT.to_bytes(8, sys.byteorder) + bytes(8)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        started, used = time.perf_counter(), time.process_time()
        {'upload': upload, 'download': download}[direction](connection, size)
        elapsed = time.perf_counter() - started
    print(json.dumps({'seconds': elapsed, 'processor': time.process_time() - used}))


if __name__ == '__main__':
    main()
