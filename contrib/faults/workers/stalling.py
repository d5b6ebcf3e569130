"""TLS clients that send half of a ClientHello and then nothing, and reconnect when they are closed.

    python stalling.py PORT COUNT

Prints a line when all have begun, continues until a line arrives, and prints how many were closed, and after how many
seconds.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import statistics
import sys
import time

from connecting import connect, report, work_until_line

__all__ = ['Stalls', 'half_hello']

#: Seconds of waiting for events.
WAIT = 0.02


def half_hello() -> bytes:
    """Return the first half of a ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname='localhost').do_handshake()
    hello = outgoing.read()
    return hello[: len(hello) // 2]


class Stalls:
    """All stalled handshakes with one server."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._hello = half_hello()
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, float]] = {}
        self.lifetimes: list[float] = []
        for _ in range(count):
            self._begin()

    def _begin(self) -> None:
        began = time.monotonic()
        connection = connect(self._port)
        connection.sendall(self._hello)
        self._poll.register(connection, select.EPOLLIN)
        self._open[connection.fileno()] = connection, began

    def replace(self) -> None:
        """Record the closed connections, and replace them."""
        for descriptor, _ in self._poll.poll(WAIT):
            connection, began = self._open.pop(descriptor)
            try:
                # a server can send an alert first
                over = not connection.recv(65536)
            except ConnectionResetError:
                over = True
            if over:
                self.lifetimes.append(time.monotonic() - began)
                self._poll.unregister(descriptor)
                connection.close()
                self._begin()
            else:
                self._open[descriptor] = connection, began


def main() -> None:
    """Stall until a line arrives."""
    stalls = Stalls(int(sys.argv[1]), int(sys.argv[2]))
    report(begun=True)
    work_until_line(stalls.replace, 0)
    while not stalls.lifetimes:
        # the load has ended before the first timeout
        stalls.replace()
    found = stalls.lifetimes
    report(count=len(found), earliest=min(found), median=statistics.median(found), latest=max(found))


if __name__ == '__main__':
    main()
