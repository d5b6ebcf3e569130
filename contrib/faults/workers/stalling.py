"""TLS clients that send half of a ClientHello and then nothing; whoever is turned away comes again.

    python stalling.py PORT COUNT

Prints a line when all have begun, goes on until a line comes, and prints how many were turned away, and after how many
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

from connecting import connect, tell, told

__all__ = ['Stalls', 'half_hello']

#: Seconds for which news are waited for.
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
        """Note who was turned away, and begin again."""
        for descriptor, _ in self._poll.poll(WAIT):
            connection, began = self._open.pop(descriptor)
            try:
                # a server may say why
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
    """Stall until told to stop."""
    stalls = Stalls(int(sys.argv[1]), int(sys.argv[2]))
    tell(begun=True)
    told(stalls.replace, 0)
    while not stalls.lifetimes:
        # the load was over before the first of them was late
        stalls.replace()
    found = stalls.lifetimes
    tell(count=len(found), earliest=min(found), median=statistics.median(found), latest=max(found))


if __name__ == '__main__':
    main()
