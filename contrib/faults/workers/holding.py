"""Clients that take every descriptor that a server has, and give them back.

    python holding.py PORT COUNT

Reads lines, and answers each with one of JSON: ``fill CAPACITY`` opens connections, each with a request, until there
are ``COUNT``, and waits until so many are answered; ``churn SECONDS`` lets one of those leave and another one come,
again and again; ``free`` closes all that were answered, and tells how many seconds it took until the others were.
"""

from __future__ import annotations

import select
import socket
import sys
import time

from connecting import ANSWER_TIMEOUT, connect, reset, tell

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
        """Open what is missing; return how many are answered when the server has no room for more."""
        while len(self._answered) + len(self._waiting) < self._count:
            self._open()
        while len(self._answered) < capacity:
            self._hear(ANSWER_TIMEOUT)
        return len(self._answered)

    def churn(self, seconds: float) -> int:
        """Let clients come and go; return how many have come."""
        came = 0
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            if self._answered:
                reset(self._answered.pop(0))
                self._open()
                came += 1
            self._sort(select.select(self._waiting, [], [], 0)[0])
            time.sleep(min(CHURN_INTERVAL, deadline - now))
        return came

    def free(self) -> float:
        """Close whoever was answered; return the time until everybody else is."""
        began = time.monotonic()
        for connection in self._answered:
            reset(connection)
        self._answered.clear()
        while self._waiting:
            self._hear(ANSWER_TIMEOUT)
        return time.monotonic() - began

    def _open(self) -> None:
        connection = connect(self._port)
        connection.sendall(REQUEST)
        self._waiting.append(connection)

    def _hear(self, seconds: float) -> None:
        """Sort out who is answered. Raises ``TimeoutError`` when nobody is within so many seconds."""
        heard, _, _ = select.select(self._waiting, [], [], seconds)
        if not heard:
            raise TimeoutError(f'{len(self._waiting)} of {self._count} are not answered')
        self._sort(heard)

    def _sort(self, heard: list[socket.socket]) -> None:
        for connection in heard:
            if not connection.recv(65536).endswith(b'hello world'):
                raise ValueError('closed, or not answered as it should be')
            self._waiting.remove(connection)
            self._answered.append(connection)


def main() -> None:
    """Do what is asked for until there is no more."""
    holder = Holder(*map(int, sys.argv[1:]))
    for line in sys.stdin:
        command, *arguments = line.split()
        tell(found=getattr(holder, command)(*map(float, arguments)))


if __name__ == '__main__':
    main()
