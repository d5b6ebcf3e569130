"""Clients that flood a server on several connections until this process is killed.

    python flood.py PORT pipelined|upload CONNECTIONS

``pipelined`` sends requests whenever the socket has room, without waiting for responses; ``upload`` sends a body of 1
GiB on each connection, and then the next. Responses are discarded in the kernel (MSG_TRUNC, tcp(7)). Prints ``{}`` when
it has begun. Its priority is lower, so that it does not delay the measuring process on a shared core.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from itertools import repeat

__all__ = ['Flood']

BLOCK = 65536
LENGTH = 2**30
NICE = 10


class Flood:
    """Connections on which the same bytes are sent repeatedly.

    :param once: the first bytes; ``more`` follows ``times`` times, and then all of it again.
    """

    def __init__(self, port: int, connections: int, once: bytes, more: bytes, times: int) -> None:
        self._parts = (once, more, times)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sending: dict[int, memoryview] = {}
        self._rest: dict[int, repeat[bytes]] = {}
        for _ in range(connections):
            connection = socket.create_connection(('127.0.0.1', port))
            connection.setblocking(False)
            number = connection.fileno()
            self._sockets[number] = connection
            self._begin(number)
            self._poll.register(number, select.EPOLLIN | select.EPOLLOUT)

    def _begin(self, number: int) -> None:
        once, more, times = self._parts
        self._sending[number], self._rest[number] = memoryview(once), repeat(more, times)

    def run(self) -> None:
        """Send and receive. Never returns; raises ``ConnectionError`` if the server closes a connection."""
        nowhere = bytearray(2**20)
        while True:
            for number, events in self._poll.poll():
                connection = self._sockets[number]
                if events & select.EPOLLIN and not connection.recv_into(nowhere, len(nowhere), socket.MSG_TRUNC):
                    raise ConnectionError('the server has closed a connection')
                if events & select.EPOLLOUT:
                    self._send(number, connection)

    def _send(self, number: int, connection: socket.socket) -> None:
        left = self._sending[number][connection.send(self._sending[number]) :]
        if not left:
            following = next(self._rest[number], None)
            if following is None:
                self._begin(number)
                return
            left = memoryview(following)
        self._sending[number] = left


def main() -> None:
    """Run the command line."""
    port, kind, connections = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    os.nice(NICE)
    host = f'Host: 127.0.0.1:{port}\r\n'
    if kind == 'pipelined':
        requests = f'GET / HTTP/1.1\r\n{host}\r\n'.encode() * 64
        flood = Flood(port, connections, requests, requests, 1)
    else:
        head = f'POST /upload HTTP/1.1\r\n{host}Content-Length: {LENGTH}\r\n\r\n'.encode()
        flood = Flood(port, connections, head, b'y' * BLOCK, LENGTH // BLOCK)
    print('{}', flush=True)
    flood.run()


if __name__ == '__main__':
    main()
