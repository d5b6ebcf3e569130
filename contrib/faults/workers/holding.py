"""Clients that take every descriptor of a server, and release them.

    python holding.py PORT COUNT

Reads commands, and answers each with a line of JSON. ``fill CAPACITY`` opens connections, each with a request, until
there are ``COUNT``, and waits until ``CAPACITY`` of them have a response. ``churn SECONDS`` repeatedly closes one of
those and opens another one. ``free`` closes all with a response, and measures the seconds until the others have one.
"""

from __future__ import annotations

import select
import socket
import sys
import time

from connecting import ANSWER_TIMEOUT, connect, report, reset

__all__ = ['Holder']

REQUEST = b'GET / HTTP/1.1\r\nHost: x\r\n\r\n'

CHURN_INTERVAL = 0.05


class Holder:
    """All connections to one server."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._count = port, count
        self._answered: list[socket.socket] = []
        self._waiting: list[socket.socket] = []

    def fill(self, capacity: float) -> int:
        """Open the missing connections; return the number of responses once the server is full."""
        while len(self._answered) + len(self._waiting) < self._count:
            self._open()
        while len(self._answered) < capacity:
            self._receive(ANSWER_TIMEOUT)
        return len(self._answered)

    def churn(self, seconds: float) -> int:
        """Close and open connections; return the number of new ones."""
        opened = 0
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            if self._answered:
                reset(self._answered.pop(0))
                self._open()
                opened += 1
            self._sort(select.select(self._waiting, [], [], 0)[0])
            time.sleep(min(CHURN_INTERVAL, deadline - now))
        return opened

    def free(self) -> float:
        """Close connections with a response; return the time until all others have one."""
        began = time.monotonic()
        for connection in self._answered:
            reset(connection)
        self._answered.clear()
        while self._waiting:
            self._receive(ANSWER_TIMEOUT)
        return time.monotonic() - began

    def _open(self) -> None:
        connection = connect(self._port)
        connection.sendall(REQUEST)
        self._waiting.append(connection)

    def _receive(self, seconds: float) -> None:
        """Receive responses. Raises ``TimeoutError`` if none arrives within ``seconds``."""
        readable, _, _ = select.select(self._waiting, [], [], seconds)
        if not readable:
            raise TimeoutError(f'{len(self._waiting)} of {self._count} have no response')
        self._sort(readable)

    def _sort(self, readable: list[socket.socket]) -> None:
        for connection in readable:
            if not connection.recv(65536).endswith(b'hello world'):
                raise ValueError('the connection was closed, or the response is wrong')
            self._waiting.remove(connection)
            self._answered.append(connection)


def main() -> None:
    """Run commands until the input ends."""
    holder = Holder(*map(int, sys.argv[1:]))
    for line in sys.stdin:
        command, *arguments = line.split()
        report(found=getattr(holder, command)(*map(float, arguments)))


if __name__ == '__main__':
    main()
